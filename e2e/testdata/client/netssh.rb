# What the tests do with Net::SSH: ruby FILE port user key dir known_hosts
require "net/ssh"
require "net/sftp"

port, user, key, far, known = ARGV

def run(ssh, command, input: nil, terminal: false)
  out, err, status, signal = +"", +"", nil, nil
  ssh.open_channel do |channel|
    channel.request_pty(term: "vt100", chars_wide: 132, chars_high: 43) if terminal
    channel.exec(command) do |c, ok|
      raise "refused" unless ok
      c.on_data { |_, data| out << data }
      c.on_extended_data { |_, _, data| err << data }
      c.on_request("exit-status") { |_, data| status = data.read_long }
      c.on_request("exit-signal") { |_, data| signal = data.read_string }
      # At once, before there is anybody to read it.
      if input
        c.send_data(input)
        c.eof! unless terminal
      end
    end
  end
  ssh.loop
  [out, err, status, signal]
end

Net::SSH.start("127.0.0.1", user, port: port.to_i, keys: [key], keys_only: true, config: false, use_agent: false,
               user_known_hosts_file: [known], global_known_hosts_file: [], non_interactive: true, timeout: 30) do |ssh|
  p run(ssh, "cat; echo err >&2; exit 7", input: "in\n")
  p run(ssh, "kill -TERM $$; sleep 5")
  p run(ssh, "wc -c; exit 255", input: "\xff\0x".b * 300_000).map { |x| x.is_a?(String) ? x.strip : x }
  p run(ssh, "cat; echo eof; exit 6", input: "abc\n\x04", terminal: true)
  p run(ssh, "stty size; echo $TERM", terminal: true)
  p ssh.exec!("echo out; echo err >&2")
end

Net::SFTP.start("127.0.0.1", user, port: port.to_i, keys: [key], keys_only: true, config: false, use_agent: false,
                user_known_hosts_file: [known], global_known_hosts_file: [], non_interactive: true, timeout: 30) do |sftp|
  sftp.upload!("cargo/sub dir/deeper/noise", far + "/it's")
  sftp.download!(far + "/it's", "back")
  sftp.mkdir!(far + "/dir")
  sftp.upload!("cargo/plain", far + "/dir/plain")
  p sftp.dir.entries(far + "/dir").map(&:name).sort
  sftp.rename!(far + "/it's", far + "/moved")
  sftp.setstat!(far + "/moved", permissions: 0o604)
  p sftp.stat!(far + "/moved").permissions.to_s(8)
  sftp.file.open(far + "/text", "w") { |f| f.puts "one" }
  sftp.file.open(far + "/text", "r") { |f| p f.gets }
  { missing: "nosuchfile", denied: "/etc/shadow" }.each do |what, name|
    sftp.file.open(name, "r") {}
  rescue Net::SFTP::StatusException => e
    puts "#{what} #{e.code} #{e.description}"
  end
end
