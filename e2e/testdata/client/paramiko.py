# What the tests do with paramiko: python3 -c ... exec|sftp port user key dir known_hosts
import stat, sys
import paramiko

part, port, user, key, far, known = sys.argv[1:]
client = paramiko.SSHClient()
client.load_host_keys(known)
client.connect("127.0.0.1", int(port), user, pkey=paramiko.Ed25519Key.from_private_key_file(key),
    look_for_keys=False, allow_agent=False, timeout=30)


def result(channel, said=b""):
    channel.settimeout(30)
    out = said + channel.makefile("rb").read()
    err = channel.makefile_stderr("rb").read()
    return out, err, channel.recv_exit_status()


def session():
    return client.get_transport().open_session()


def run_commands():
    stdin, stdout, stderr = client.exec_command("cat; echo err >&2; exit 7", environment={"LC_TEST": "x y"})
    stdin.write("in\n")
    stdin.channel.shutdown_write()
    print(stdout.read(), stderr.read(), stdout.channel.recv_exit_status())

    c = session()
    c.set_environment_variable("LC_TEST", "a\nb")
    c.exec_command('echo "$LC_TEST"; sleep 0.1; kill -TERM $$')
    print(result(c))

    c = session()
    c.exec_command("")
    print(result(c))

    c = session()
    c.set_combine_stderr(True)
    c.exec_command("echo out; sleep 0.1; echo err >&2")
    print(result(c))

    c = session()
    c.exec_command("cat; echo after; exit 8")
    c.sendall(b"\xff\0half" * 100000)
    c.shutdown_write()
    out, err, status = result(c)
    print(len(out), out[-12:], err, status)

    c = session()
    c.get_pty("vt100", 80, 24)
    c.resize_pty(132, 43)
    c.exec_command("stty size; echo $TERM; read x; stty size; exit 9")
    said = b""
    while said.count(b"\n") < 2:
        said += c.recv(1000)
    c.resize_pty(10, 5)
    c.sendall(b"go\n")
    print(result(c, said))

    c = session()
    c.invoke_shell()
    c.sendall(b"cd /; pwd; exit 10\n")
    print(result(c))

    try:
        session().invoke_subsystem("nosuchsubsystem")
    except paramiko.SSHException as e:
        print("subsystem:", e)


def transfer_files():
    c = client.open_sftp()
    print(c.normalize(".").rsplit("/", 1)[0])
    c.chdir(far)
    c.mkdir("new dir", 0o711)
    print(c.put("cargo/sub dir/deeper/noise", "new dir/it's").st_size)
    c.get("new dir/it's", "back")
    with c.open("new dir/it's", "r") as f:
        f.prefetch()
        print(len(f.read()))
        print([len(x) for x in f.readv([(0, 10), (99999, 100)])])
    c.chmod("new dir/it's", 0o604)
    c.symlink("it's", "new dir/sym")
    print(c.readlink("new dir/sym"), oct(c.stat("new dir/sym").st_mode), stat.S_ISLNK(c.lstat("new dir/sym").st_mode))
    c.rename("new dir/it's", "new dir/a\nb")
    c.posix_rename("new dir/a\nb", "new dir/it's")
    with c.open("text", "w+") as f:
        f.write("one\ntwo\n")
        f.seek(0)
        print(f.readlines())
    with c.open("text", "a") as f:
        f.write("three\n")
    c.truncate("text", 10)
    c.utime("text", (1000000000, 1000000001))
    print(c.stat("text").st_mtime, sorted(c.listdir()), sorted(a.filename for a in c.listdir_iter("new dir")))
    for what, call in {
        "missing": lambda: c.open("nosuchfile"), "denied": lambda: c.open("/etc/shadow"),
        "not empty": lambda: c.rmdir("new dir"), "exists": lambda: c.mkdir("new dir"),
    }.items():
        try:
            call()
        except IOError as e:
            print(what, type(e).__name__, e)


{"exec": run_commands, "sftp": transfer_files}[part]()
client.close()
