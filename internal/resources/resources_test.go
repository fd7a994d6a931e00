package resources

import (
	"testing"
	"testing/fstest"
)

func TestMemoryOfTheCgroup(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"not Linux", nil, unlimited},
		{"version 2, in a container", map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "134217728\n"}, 128 << 20},
		{"version 2, of systemd", map[string]string{
			"proc/self/cgroup": "0::/system.slice/oidc-provider.service\n",
			"sys/fs/cgroup/system.slice/oidc-provider.service/memory.max": "67108864\n",
			"sys/fs/cgroup/system.slice/memory.max":                       "max\n"}, 64 << 20},
		{"version 2, the parent has less", map[string]string{
			"proc/self/cgroup": "0::/kubepods/pod1/c1\n", "sys/fs/cgroup/kubepods/pod1/c1/memory.max": "max\n",
			"sys/fs/cgroup/kubepods/pod1/memory.max": "268435456\n", "sys/fs/cgroup/kubepods/memory.max": "1073741824\n",
		}, 256 << 20},
		{"version 2 without a limit", map[string]string{
			"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, unlimited},
		{"version 1, seen from inside", map[string]string{
			"proc/self/cgroup":                           "9:name=systemd:/x\n4:memory:/docker/3a5f\n1:cpu:/\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "100000000\n"}, 100_000_000},
		{"version 1 without a limit", map[string]string{
			"proc/self/cgroup": "4:memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, unlimited},
		{"both versions", map[string]string{
			"proc/self/cgroup": "4:memory:/a\n0::/b\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "300\n",
			"sys/fs/cgroup/b/memory.max": "200\n"}, 200},
		{"a path that leads out", map[string]string{
			"proc/self/cgroup": "0::/../../a\n", "sys/fs/cgroup/a/memory.max": "500\n", "a/memory.max": "1\n"}, 500},
		{"a colon in the path", map[string]string{
			"proc/self/cgroup": "0::/a:b\n", "sys/fs/cgroup/a:b/memory.max": "700\n"}, 700},
		{"nonsense", map[string]string{
			"proc/self/cgroup": "\n:::\n0::\nx\n", "sys/fs/cgroup/memory.max": "-1 MiB\n"}, unlimited},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := make(fstest.MapFS)
			for name, text := range tt.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := memory(root); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestHeapLimit(t *testing.T) {
	for limit, want := range map[int64]int64{
		16 << 20: 8 << 20, 64 << 20: 48 << 20, 128 << 20: 112 << 20, 160 << 20: 144 << 20, 1000 << 20: 900 << 20,
	} {
		if got := heapLimit(limit); got != want {
			t.Errorf("of %d: got %d, want %d", limit, got, want)
		}
	}
}
