// What the tests do with JSch: java -cp jsch.jar FILE port user key dir known_hosts
import com.jcraft.jsch.*;
import java.io.*;
import java.util.*;

public class Jsch {
    static Session session;

    static void run(String command, byte[] input, boolean terminal) throws Exception {
        ChannelExec c = (ChannelExec) session.openChannel("exec");
        c.setCommand(command);
        c.setPty(terminal);
        if (terminal) {
            c.setPtyType("vt100", 132, 43, 0, 0);
        }
        PipedOutputStream to = new PipedOutputStream();
        ByteArrayOutputStream errors = new ByteArrayOutputStream();
        c.setInputStream(input == null ? null : new PipedInputStream(to, Math.max(input.length, 1)));
        c.setErrStream(errors);
        InputStream from = c.getInputStream();
        if (input != null) {
            to.write(input); // before there is anybody to read it
            to.flush();
            if (!terminal) {
                to.close();
            }
        }
        c.connect(30000);
        byte[] out = from.readAllBytes();
        while (!c.isClosed()) {
            Thread.sleep(10);
        }
        System.out.println(escape(out) + " " + escape(errors.toByteArray()) + " " + c.getExitStatus());
        c.disconnect();
    }

    static String escape(byte[] b) throws Exception {
        return '"' + new String(b, "ISO-8859-1").replace("\r", "\\r").replace("\n", "\\n") + '"';
    }

    static void attempt(String what, ChannelSftp sftp, String name) {
        try {
            sftp.get(name).close();
            System.out.println(what + " opened");
        } catch (SftpException e) {
            System.out.println(what + " " + e.id + " " + e.getMessage());
        } catch (IOException e) {
            System.out.println(what + " " + e);
        }
    }

    public static void main(String[] args) throws Exception {
        String far = args[3];
        JSch jsch = new JSch();
        jsch.addIdentity(args[2]);
        session = jsch.getSession(args[1], "127.0.0.1", Integer.parseInt(args[0]));
        session.setConfig("StrictHostKeyChecking", "no");
        session.setConfig("PreferredAuthentications", "publickey");
        session.connect(30000);
        run("cat; echo err >&2; exit 7", "in\n".getBytes(), false);
        run("wc -c | tr -d ' '; exit 255", new byte[300000], false);
        run("cat; echo eof; exit 6", "abc\n\4".getBytes(), true);
        run("stty size; echo $TERM", null, true);

        ChannelSftp sftp = (ChannelSftp) session.openChannel("sftp");
        sftp.connect(30000);
        sftp.put("cargo/sub dir/deeper/noise", far + "/it's");
        sftp.get(far + "/it's", "back");
        sftp.mkdir(far + "/dir");
        sftp.rename(far + "/it's", far + "/dir/moved");
        sftp.chmod(0604, far + "/dir/moved");
        sftp.symlink("moved", far + "/dir/sym");
        System.out.println(sftp.stat(far + "/dir/moved").getPermissionsString() + " " + sftp.readlink(far + "/dir/sym"));
        List<String> names = new ArrayList<>();
        for (Object e : sftp.ls(far + "/dir")) {
            names.add(((ChannelSftp.LsEntry) e).getFilename());
        }
        Collections.sort(names);
        System.out.println(names);
        attempt("missing", sftp, "nosuchfile");
        attempt("denied", sftp, "/etc/shadow");
        session.disconnect();
    }
}
