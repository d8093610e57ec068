// Package sftpserver is an SFTP server on descriptors 0 and 1, for a root file
// system that has none: version 3 of the protocol with OpenSSH's extensions
// (draft-ietf-secsh-filexfer-02, OpenSSH's PROTOCOL and sftp-server(8)).
//
// The behaviour is that of OpenSSH's sftp-server.c, whose statuses, texts and
// order of steps clients have come to rely on; a test asks both servers the same
// and compares the answers. Where it differs on purpose the code says so.
//
// It runs inside a jail as the login, with no right the login's shell would not
// have: what it refuses is a matter of the protocol and of its options, never of
// the jail's safety.
//
//   - packet.go, request.go: bytes into requests, without system calls
//   - options.go: the command line
//   - serve_linux.go: the loop, and what answers share
//   - file_linux.go, dir_linux.go, path_linux.go, extended_linux.go: the requests
//   - names_linux.go, log_linux.go: users and groups, the log
package sftpserver

// protocolVersion is the version offered, whatever the client speaks
// (sftp.h, SSH2_FILEXFER_VERSION).
const protocolVersion = 3

// Limits of what a client can make the server hold.
const (
	// maxMessage is the largest message in either direction, without its length
	// (sftp-common.h, SFTP_MAX_MSG_LENGTH).
	maxMessage = 256 << 10
	// maxData is the most data in one read or write (SFTP_MAX_READ_LENGTH).
	maxData = maxMessage - 1024
	// maxNames is how many names of a directory travel in one answer.
	maxNames = 100
	// maxPath is PATH_MAX without its NUL.
	maxPath = 4095
)

// Types of messages (draft-ietf-secsh-filexfer-02, 3).
const (
	typeInit          = 1
	typeVersion       = 2
	typeOpen          = 3
	typeClose         = 4
	typeRead          = 5
	typeWrite         = 6
	typeLstat         = 7
	typeFstat         = 8
	typeSetstat       = 9
	typeFsetstat      = 10
	typeOpendir       = 11
	typeReaddir       = 12
	typeRemove        = 13
	typeMkdir         = 14
	typeRmdir         = 15
	typeRealpath      = 16
	typeStat          = 17
	typeRename        = 18
	typeReadlink      = 19
	typeSymlink       = 20
	typeStatus        = 101
	typeHandle        = 102
	typeData          = 103
	typeName          = 104
	typeAttrs         = 105
	typeExtended      = 200
	typeExtendedReply = 201
)

// status is the code of an SSH_FXP_STATUS.
type status uint32

// Statuses (draft-ietf-secsh-filexfer-02, 7).
const (
	statusOK status = iota
	statusEOF
	statusNoSuchFile
	statusPermissionDenied
	statusFailure
	statusBadMessage
	statusNoConnection
	statusConnectionLost
	statusUnsupported
)

// text is the message that goes with a status (sftp-server.c,
// status_to_message).
func (s status) text() string {
	switch s {
	case statusOK:
		return "Success"
	case statusEOF:
		return "End of file"
	case statusNoSuchFile:
		return "No such file"
	case statusPermissionDenied:
		return "Permission denied"
	case statusFailure:
		return "Failure"
	case statusBadMessage:
		return "Bad message"
	case statusNoConnection:
		return "No connection"
	case statusConnectionLost:
		return "Connection lost"
	case statusUnsupported:
		return "Operation unsupported"
	}
	return "Unknown error"
}

// Flags of an open (draft-ietf-secsh-filexfer-02, 6.3).
const (
	openRead   = 0x01
	openWrite  = 0x02
	openAppend = 0x04
	openCreate = 0x08
	openTrunc  = 0x10
	openExcl   = 0x20
)

// Bits of attrs.flags (draft-ietf-secsh-filexfer-02, 5).
const (
	attrSize        = 0x01
	attrOwner       = 0x02
	attrPermissions = 0x04
	attrTimes       = 0x08
	attrExtended    = 0x80000000
)

// attrs are a file's attributes; only those whose bit is in flags are valid.
type attrs struct {
	flags        uint32
	size         uint64
	uid, gid     uint32
	perm         uint32
	atime, mtime uint32
}
