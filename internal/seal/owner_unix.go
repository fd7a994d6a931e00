//go:build unix

package seal

import (
	"io/fs"
	"os"
	"syscall"
)

// belongsToAnother tells of a file that this process can read only because its
// group may.
func belongsToAnother(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) != os.Geteuid()
}
