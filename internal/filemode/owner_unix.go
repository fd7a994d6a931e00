//go:build unix

package filemode

import (
	"io/fs"
	"syscall"
)

const hasOwners = true

// ownerOf returns the numeric user who owns a file.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
