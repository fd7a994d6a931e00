package resources

import "syscall"

// tables is what the Go runtime maps for its own tables, which count for
// RLIMIT_DATA although hardly any of it is ever used.
const tables = 64 << 20

// maxData returns what RLIMIT_DATA, which bounds the private memory that can be
// written, leaves for this program.
func maxData() int64 { return max(rlimit(syscall.RLIMIT_DATA)-tables, 16<<20) }

func maxFiles() int64 { return rlimit(syscall.RLIMIT_NOFILE) }

func rlimit(resource int) int64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(resource, &limit); err != nil {
		return unlimited
	}
	return int64(min(limit.Cur, unlimited))
}
