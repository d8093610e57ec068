# What the tests do with asyncssh: python3 FILE port user key dir known_hosts
import asyncio, sys
import asyncssh

port, user, key, far, known = sys.argv[1:]


async def commands(c):
    r = await c.run("cat; echo err >&2; exit 7", input="in\n")
    print(repr(r.stdout), repr(r.stderr), r.exit_status)
    for signal in "TERM", "KILL", "SEGV":
        r = await c.run("kill -%s $$; sleep 5" % signal)
        print(signal, r.exit_status, r.exit_signal and r.exit_signal[0])
    r = await c.run("", input="exit 3\n")
    print("empty", repr(r.stdout), r.exit_status)
    r = await c.run("cat | wc -c; exit 255", input=b"\xff\0x" * 500000, encoding=None)
    print(r.stdout.strip(), r.exit_status)

    # Input comes with the request, before there is anybody to read it.
    r = await c.run("cat; echo eof; exit 6", term_type="vt100", term_size=(80, 24), input="abc\n\x04")
    print("terminal", repr(r.stdout), r.exit_status)
    r = await c.run("stty size; echo $TERM", term_type="vt220", term_size=(132, 43))
    print("size", repr(r.stdout), r.exit_status)

    # Ten at once, each waiting for the next one.
    many = [c.run("cd %s; : >a%d; until test -e a%d; do sleep 0.05; done; exit %d" % (far, i, (i + 1) % 10, i)) for i in range(10)]
    print([r.exit_status for r in await asyncio.gather(*many)])


async def files(c):
    async with c.start_sftp_client() as sftp:
        print((await sftp.realpath(".")).rsplit("/", 1)[0])
        await sftp.put("cargo/sub dir/deeper/noise", far + "/it's")
        await sftp.get(far + "/it's", "back")
        await sftp.put("cargo", far + "/cargo", recurse=True, preserve=True)
        print(sorted(await sftp.listdir(far + "/cargo")))
        await sftp.rename(far + "/it's", far + "/moved")
        await sftp.posix_rename(far + "/moved", far + "/it's")
        await sftp.chmod(far + "/it's", 0o604)
        await sftp.symlink("it's", far + "/sym")
        print(await sftp.readlink(far + "/sym"), oct((await sftp.stat(far + "/sym")).permissions))
        async with sftp.open(far + "/text", "w") as f:
            await f.write("one\n")
        async with sftp.open(far + "/text", "a") as f:
            await f.write("two\n")
        async with sftp.open(far + "/text") as f:
            print(repr(await f.read()))
        print((await sftp.statvfs(far)).namemax)
        for what, call in ("missing", sftp.open("nosuchfile")), ("denied", sftp.open("/etc/shadow")), ("not empty", sftp.rmdir(far)):
            try:
                await call
            except asyncssh.SFTPError as e:
                print(what, type(e).__name__, e)
        await sftp.rmtree(far + "/cargo")


async def main():
    async with asyncssh.connect("127.0.0.1", int(port), username=user, client_keys=[key], known_hosts=known, config=None, agent_path=None) as c:
        await commands(c)
        await files(c)


asyncio.run(main())
