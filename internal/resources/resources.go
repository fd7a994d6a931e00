// Package resources says how much memory and how many file descriptors this
// process may use.
package resources

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// unlimited is what a limit means that is not set. Version 1 of cgroups has a
// number of about this size.
const unlimited = math.MaxInt64 / 2

// LimitMemory lets the garbage collector keep the process below the memory that it
// may use, and returns how many bytes that is, or 0 if there is no limit. A limit
// in $GOMEMLIMIT has precedence.
func LimitMemory() int64 {
	if set := debug.SetMemoryLimit(-1); set != math.MaxInt64 {
		return set
	}
	limit := min(memory(os.DirFS("/")), maxData())
	if limit >= unlimited {
		return 0
	}
	debug.SetMemoryLimit(heapLimit(limit))
	return limit
}

// heapLimit leaves room for what the collector does not count, such as the stacks
// of threads, and for what is allocated while it runs.
func heapLimit(limit int64) int64 {
	return max(limit-max(limit/10, 16<<20), limit/2)
}

// MaxFiles returns how many files this process may have open.
func MaxFiles() int { return int(min(maxFiles(), math.MaxInt32)) }

// memory returns the memory limit of the cgroup of this process, of version 1 or 2,
// and of those that contain it.
func memory(root fs.FS) int64 {
	limit := int64(unlimited)
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return limit // not Linux
	}
	for line := range strings.Lines(string(groups)) {
		// hierarchy:controllers:path, as in cgroups(7)
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0":
			limit = min(limit, memoryOf(root, "sys/fs/cgroup", parts[2], "memory.max"))
		case parts[1] == "memory":
			limit = min(limit, memoryOf(root, "sys/fs/cgroup/memory", parts[2], "memory.limit_in_bytes"))
		}
	}
	return limit
}

// memoryOf returns the lowest limit in the files of that name, from group upwards.
// A container may see its own group only, as the root, and under another path.
func memoryOf(root fs.FS, mount, group, name string) int64 {
	limit := int64(unlimited)
	for at := path.Clean("/" + group); ; at = path.Dir(at) {
		data, err := fs.ReadFile(root, path.Join(mount, at, name))
		if err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 {
				limit = min(limit, n)
			}
		}
		if at == "/" {
			return limit
		}
	}
}
