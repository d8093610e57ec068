package hostfiles

// etcNames are what cages see of the host's /etc, where it exists: files, directories with
// all that everybody may read in them, and patterns of path.Match.
//
// Never in it: shadow, gshadow, passwd, group, sub[ug]id, sudoers, keys and settings of
// sshd, pam.d, cron, ssl/private, fstab, and what daemons and package managers have
// passwords in (mysql/debian.cnf, postfix, exim4, letsencrypt, apt/auth.conf). Where a
// directory has a daemon's settings beside those of programs (php/8.2/fpm, mysql/conf.d,
// pki/tls/private), what is the programs' is named by itself.
var etcNames = []string{
	// name service, clocks, linker
	"nsswitch.conf", "host.conf", "gai.conf", "networks", "services", "protocols", "rpc", "ethertypes", "localtime",
	"timezone", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "locale.alias", "locale.conf",
	"default/locale",
	// shells and terminals
	"profile", "profile.d", "bash.bashrc", "bashrc", "bash_completion.d", "bash_completion", "inputrc", "shells", "zsh",
	"zshrc", "zprofile", "zshenv", "csh", "csh.cshrc", "csh.login", "csh.logout", "fish", "mkshrc", "terminfo",
	"environment", "login.defs", "DIR_COLORS", "issue", "motd", "skel",
	// certificates and cryptography
	"ssl/certs", "ssl/openssl.cnf", "ca-certificates", "ca-certificates.conf", "pki/ca-trust",
	"pki/tls/cert.pem", "pki/tls/certs", "pki/tls/openssl.cnf", "pki/tls/openssl.d", "pki/tls/ct_log_list.cnf",
	"crypto-policies", "gnutls", "gss",
	// programs
	"alternatives", "os-release", "debian_version", "lsb-release", "redhat-release", "centos-release",
	"almalinux-release", "rocky-release", "system-release", "vim", "vimrc", "virc", "nanorc", "emacs", "manpath.config",
	"man_db.conf", "groff", "magic", "magic.mime", "mime.types", "mailcap", "gitconfig", "gitattributes", "mercurial",
	"subversion", "screenrc", "tmux.conf", "byobu", "mc", "lftp.conf", "wgetrc", "curlrc", "ssh/ssh_config",
	"ssh/ssh_config.d", "ssh/ssh_known_hosts", "perl", "python3", "python3.*", "python", "pip.conf", "php/*/cli",
	"php/*/mods-available", "php.ini", "php.d", "php-zts.d", "opt/remi/*/php.ini", "opt/remi/*/php.d", "npmrc", "java", "java-*", "maven", "jvm", "ruby*", "gemrc", "lua", "fonts",
	"ImageMagick*", "ghostscript", "papersize", "xdg", "xml", "sgml", "texmf", "dictionaries-common", "aspell*",
	"hunspell", "sensors3.conf", "gdb", "debuginfod", "libnl-3", "libaudit.conf", "xattr.conf", "odbc.ini",
	"odbcinst.ini", "mysql/conf.d/mysql.cnf", "mysql/conf.d/mysqldump.cnf", "mysql/mariadb.conf.d/50-client.cnf",
	"mysql/mariadb.conf.d/50-mysql-clients.cnf", "mysql/my.cnf", "mysql/mariadb.cnf", "my.cnf", "my.cnf.d/client.cnf",
	"my.cnf.d/mysql-clients.cnf",
	"postgresql-common/root.crt", "pear",
}
