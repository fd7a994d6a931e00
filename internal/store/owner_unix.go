//go:build unix

package store

import (
	"os"
	"syscall"
)

// giveToOwner changes the owner of a file that root has created to the owner of
// the directory: a command that an operator runs as root must leave the ring
// readable to the server. A file with further hard links keeps its owner.
func giveToOwner(file *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	owner, err := os.Stat(dir)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	to, ok := owner.Sys().(*syscall.Stat_t)
	from, ok2 := info.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || from.Uid == to.Uid || from.Uid != 0 || from.Nlink != 1 {
		return nil
	}
	return file.Chown(int(to.Uid), int(to.Gid))
}
