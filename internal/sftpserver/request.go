package sftpserver

// request is one message of the client, decoded: of all its fields those that
// its kind has.
type request struct {
	kind *kind
	id   uint32

	path, path2     string
	handle, handle2 int
	offset, offset2 uint64
	length          uint64 // of a read or a copy
	flags           uint32 // of an open
	attrs           attrs
	data            []byte // of a write; a part of the message
	uids, gids      []byte // 32-bit ids, big endian; a part of the message
}

// kind is one kind of request.
type kind struct {
	name    string // as the options -p and -P have it, and -Q lists it
	code    uint8
	ext     string // the name of an extended request
	version string // of the extension, as it is announced
	writes  bool   // refused with -R; an open is judged by its flags
	decode  func(*reader, *request)
	serve   func(*server, *request)
}

// kinds are the requests there are, in the order of sftp-server.c, which is that
// of -Q.
var kinds = [...]kind{
	{name: "open", code: typeOpen, decode: decodeOpen, serve: (*server).open},
	{name: "close", code: typeClose, decode: decodeHandle, serve: (*server).close},
	{name: "read", code: typeRead, decode: decodeRead, serve: (*server).read},
	{name: "write", code: typeWrite, writes: true, decode: decodeWrite, serve: (*server).write},
	{name: "lstat", code: typeLstat, decode: decodePath, serve: (*server).lstat},
	{name: "fstat", code: typeFstat, decode: decodeHandle, serve: (*server).fstat},
	{name: "setstat", code: typeSetstat, writes: true, decode: decodePathAttrs, serve: (*server).setstat},
	{name: "fsetstat", code: typeFsetstat, writes: true, decode: decodeHandleAttrs, serve: (*server).fsetstat},
	{name: "opendir", code: typeOpendir, decode: decodePath, serve: (*server).opendir},
	{name: "readdir", code: typeReaddir, decode: decodeHandle, serve: (*server).readdir},
	{name: "remove", code: typeRemove, writes: true, decode: decodePath, serve: (*server).remove},
	{name: "mkdir", code: typeMkdir, writes: true, decode: decodePathAttrs, serve: (*server).mkdir},
	{name: "rmdir", code: typeRmdir, writes: true, decode: decodePath, serve: (*server).rmdir},
	{name: "realpath", code: typeRealpath, decode: decodePath, serve: (*server).realpath},
	{name: "stat", code: typeStat, decode: decodePath, serve: (*server).stat},
	{name: "rename", code: typeRename, writes: true, decode: decodeTwoPaths, serve: (*server).rename},
	{name: "readlink", code: typeReadlink, decode: decodePath, serve: (*server).readlink},
	{name: "symlink", code: typeSymlink, writes: true, decode: decodeTwoPaths, serve: (*server).symlink},

	{name: "posix-rename", ext: "posix-rename@openssh.com", version: "1", writes: true, decode: decodeTwoPaths, serve: (*server).posixRename},
	{name: "statvfs", ext: "statvfs@openssh.com", version: "2", decode: decodePath, serve: (*server).statvfs},
	{name: "fstatvfs", ext: "fstatvfs@openssh.com", version: "2", decode: decodeHandle, serve: (*server).fstatvfs},
	{name: "hardlink", ext: "hardlink@openssh.com", version: "1", writes: true, decode: decodeTwoPaths, serve: (*server).hardlink},
	{name: "fsync", ext: "fsync@openssh.com", version: "1", writes: true, decode: decodeHandle, serve: (*server).fsync},
	{name: "lsetstat", ext: "lsetstat@openssh.com", version: "1", writes: true, decode: decodePathAttrs, serve: (*server).lsetstat},
	{name: "limits", ext: "limits@openssh.com", version: "1", decode: decodeNothing, serve: (*server).limits},
	{name: "expand-path", ext: "expand-path@openssh.com", version: "1", decode: decodePath, serve: (*server).expandPath},
	{name: "copy-data", ext: "copy-data", version: "1", writes: true, decode: decodeCopy, serve: (*server).copyData},
	{name: "home-directory", ext: "home-directory", version: "1", decode: decodePath, serve: (*server).homeDirectory},
	{name: "users-groups-by-id", ext: "users-groups-by-id@openssh.com", version: "1", decode: decodeIDs, serve: (*server).usersGroups},
}

func kindByCode(code uint8) *kind {
	for i := range kinds {
		if k := &kinds[i]; k.code == code && k.ext == "" {
			return k
		}
	}
	return nil
}

func kindByExtension(name string) *kind {
	for i := range kinds {
		if k := &kinds[i]; k.ext == name && name != "" {
			return k
		}
	}
	return nil
}

func decodeNothing(*reader, *request) {}

func decodePath(in *reader, r *request) { r.path = in.text() }

func decodeTwoPaths(in *reader, r *request) { r.path, r.path2 = in.text(), in.text() }

func decodePathAttrs(in *reader, r *request) { r.path, r.attrs = in.text(), in.attrs() }

func decodeHandle(in *reader, r *request) { r.handle = in.handle() }

func decodeHandleAttrs(in *reader, r *request) { r.handle, r.attrs = in.handle(), in.attrs() }

func decodeOpen(in *reader, r *request) {
	r.path, r.flags, r.attrs = in.text(), in.u32(), in.attrs()
}

func decodeRead(in *reader, r *request) {
	r.handle, r.offset, r.length = in.handle(), in.u64(), uint64(in.u32())
}

func decodeWrite(in *reader, r *request) {
	r.handle, r.offset, r.data = in.handle(), in.u64(), in.bytes()
}

func decodeCopy(in *reader, r *request) {
	r.handle, r.offset, r.length = in.handle(), in.u64(), in.u64()
	r.handle2, r.offset2 = in.handle(), in.u64()
}

func decodeIDs(in *reader, r *request) {
	r.uids, r.gids = in.bytes(), in.bytes()
	if len(r.uids)%4 != 0 || len(r.gids)%4 != 0 {
		in.bad = true
	}
}
