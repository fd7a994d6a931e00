package etcd_test

import (
	"strings"
	"testing"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/store/etcd"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ spec, endpoints, key, fault string }{
		{spec: "etcd://a", endpoints: "a:2379"},
		{spec: "etcds://a/", endpoints: "a:2379"},
		{spec: "ETCDS://A:1", endpoints: "A:1"},
		{spec: "etcd://a:1,b,10.0.0.1:65535", endpoints: "a:1 b:2379 10.0.0.1:65535"},
		{spec: "etcd://[::1]:2380,[fe80::2]", endpoints: "[::1]:2380 [fe80::2]:2379"},
		{spec: "etcd://a/p", endpoints: "a:2379", key: "/p/ring"},
		{spec: "etcd://a/p/q//", endpoints: "a:2379", key: "/p/q/ring"},
		{spec: "etcd://a/registry-of-mine", endpoints: "a:2379", key: "/registry-of-mine/ring"},
		{spec: "etcd://a/x/registry", endpoints: "a:2379", key: "/x/registry/ring"},

		{spec: "a:2379", fault: "etcd://HOST"},
		{spec: "http://a", fault: "etcd://HOST"},
		{spec: "etcd:a", fault: "etcd://HOST"},
		{spec: "etcd://", fault: "not HOST"},
		{spec: "etcd:///p", fault: "not HOST"},
		{spec: "etcd://a,/p", fault: "not HOST"},
		{spec: "etcd://:2379", fault: "not HOST"},
		{spec: "etcd://a, b", fault: "not HOST"},
		{spec: "etcd://::1", fault: "brackets"},
		{spec: "etcd://a:b:1", fault: "not HOST"},
		{spec: "etcd://a:x", fault: "not HOST"},
		{spec: "etcd://a:0", fault: "no valid port"},
		{spec: "etcd://a:65536", fault: "no valid port"},
		{spec: "etcd://me:secret@a", fault: "etcd.user"},
		{spec: "etcd://me:se/cret@a", fault: "etcd.user"},
		{spec: "etcd://a?x=y", fault: "must not contain ? or #"},
		{spec: "etcd://a/p#x", fault: "must not contain ? or #"},
		{spec: "etcd://a/registry", fault: "kube-apiserver"},
		{spec: "etcd://a/registry/p/", fault: "kube-apiserver"},
		{spec: "etcd://a//registry", fault: "write /registry"},
		{spec: "etcd://a/p/../registry", fault: "write /registry"},
	} {
		endpoints, got, tls, err := etcd.Parse(tt.spec)
		if tt.fault != "" {
			text := hint.Text(err, hint.Field)
			if !strings.Contains(text, tt.fault) || !strings.Contains(text, "(hint: ") || strings.Contains(text, "cret") {
				t.Errorf("%s: got %v, %q, want an error with %q", tt.spec, endpoints, text, tt.fault)
			}
			continue
		}
		if tt.key == "" {
			tt.key = key
		}
		secure := strings.HasPrefix(strings.ToLower(tt.spec), "etcds")
		if err != nil || strings.Join(endpoints, " ") != tt.endpoints || got != tt.key || tls != secure {
			t.Errorf("%s: got %v, %s, %v, %v", tt.spec, endpoints, got, tls, err)
		}
	}
}
