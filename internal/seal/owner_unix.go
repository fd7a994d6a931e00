//go:build unix

package seal

import (
	"io/fs"
	"os"
	"syscall"
)

// belongsToAnother reports whether another user owns the file, so that this process
// can read it only through its group.
func belongsToAnother(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) != os.Geteuid()
}
