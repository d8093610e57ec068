package sys

import (
	"syscall"
	"unsafe"
)

// FSXAttr is struct fsxattr of linux/fs.h, for FS_IOC_FSGETXATTR.
type FSXAttr struct {
	XFlags, ExtSize, Extents, Project, CowExtSize uint32
	_                                             [8]byte
}

// ProjectInherit is FS_XFLAG_PROJINHERIT: what is made in a directory has its project.
const ProjectInherit = 0x200

const (
	fsGetXAttr = 0x801c581f // FS_IOC_FSGETXATTR
	fsSetXAttr = 0x401c5820 // FS_IOC_FSSETXATTR
)

// GetFSXAttr reads the attributes of an open file or directory. ENOTTY and EOPNOTSUPP are
// file systems without them.
func GetFSXAttr(fd int) (x FSXAttr, err error) { return x, fsXAttr(fd, fsGetXAttr, &x) }

// SetFSXAttr sets them. In a user namespace the kernel refuses another project and another
// ProjectInherit (EINVAL; fileattr_set_prepare, fs/ioctl.c).
func SetFSXAttr(fd int, x FSXAttr) error { return fsXAttr(fd, fsSetXAttr, &x) }

func fsXAttr(fd int, cmd uintptr, x *FSXAttr) error {
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), cmd, uintptr(unsafe.Pointer(x)))
	if e != 0 {
		return e
	}
	return nil
}

// Quota is struct if_dqblk of linux/quota.h: limits and use of a project. Blocks are in
// KiB, Space is in bytes; 0 is no limit.
type Quota struct {
	BlocksHard, BlocksSoft, Space, FilesHard, FilesSoft, Files, BlockTime, FileTime uint64
	Valid                                                                           uint32
	_                                                                               uint32
}

// The limits of a Quota that are valid: QIF_BLIMITS and QIF_ILIMITS.
const (
	QuotaBlocks = 1
	QuotaFiles  = 4
)

const (
	sysQuotactlFD = 443

	qGetQuota  = 0x800007
	qSetQuota  = 0x800008
	qXGetStatV = 0x5808 // Q_XGETQSTATV
	projects   = 2      // PRJQUOTA
	enforced   = 1 << 5 // FS_QUOTA_PDQ_ENFD
)

// GetProjectQuota reads the quota of a project of the file system fd is on (quotactl_fd(2),
// Linux 5.14). ESRCH is a file system without project quotas.
func GetProjectQuota(fd int, project uint32) (q Quota, err error) {
	return q, quotactlFD(fd, qGetQuota, project, unsafe.Pointer(&q))
}

// SetProjectQuota sets the limits of a project that are valid in q.
func SetProjectQuota(fd int, project uint32, q Quota) error {
	return quotactlFD(fd, qSetQuota, project, unsafe.Pointer(&q))
}

// ProjectQuotaEnforced reports whether the file system keeps to limits of projects, as it does
// with the mount option prjquota.
func ProjectQuotaEnforced(fd int) bool {
	// struct fs_quota_statv of linux/dqblk_xfs.h.
	var st struct {
		version, _ int8
		flags      uint16
		_          [156]byte
	}
	st.version = 1 // FS_QSTATV_VERSION1
	return quotactlFD(fd, qXGetStatV, 0, unsafe.Pointer(&st)) == nil && st.flags&enforced != 0
}

func quotactlFD(fd int, cmd uint32, id uint32, at unsafe.Pointer) error {
	_, _, e := syscall.Syscall6(sysQuotactlFD, uintptr(fd), uintptr(cmd<<8|projects), uintptr(id), uintptr(at), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
