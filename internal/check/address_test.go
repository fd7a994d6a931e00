package check_test

import (
	"net"
	"strings"
	"testing"

	"oidc-provider/internal/check"
)

// A document that names a private address sends nobody there, however it is
// written.
func TestPrivateAddresses(t *testing.T) {
	for _, host := range []string{
		"10.0.0.1", "172.16.0.1:6443", "172.31.255.255", "192.168.1.1", "127.0.0.2", "0.0.0.0", "0.1.2.3",
		"169.254.169.254", "169.254.170.2", "100.64.0.1", "100.127.255.254", "192.0.0.170", "198.18.0.1", "224.0.0.1",
		"240.0.0.1", "255.255.255.255",
		"[::1]", "[::]", "[fe80::1]", "[fd00:ec2::254]", "[fc00::1]", "[ff02::1]", "[fec0::1]",
		"[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::10.0.0.1]", "[::ffff:0:a00:1]",
		"[64:ff9b::10.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::8.8.8.8]", "[64:ff9b:1::a00:1]", "[64:ff9b:1:ffff::1]",
		"[2002:a00:1::1]", "[2001:0:a00:1::1]",
	} {
		t.Run(host, func(t *testing.T) {
			r := newRig(t)
			r.options.ConnectTo = map[string][]string{"oidc.example.com:443": {r.serve()}}
			r.metadata["jwks_uri"] = "https://" + host + "/keys"
			r.options.Tries = 1
			report := survive(t, r)
			for _, result := range report.Results {
				if result.Check == "jwks/addresses" {
					if result.Status != check.Fail || !strings.Contains(result.Seen, "and was not asked") {
						t.Errorf("got %+v", result)
					}
					return
				}
			}
			t.Error("nothing about the address")
		})
	}
}

func TestPrivateAddressesAreAllowed(t *testing.T) {
	for _, allow := range []bool{false, true} {
		trap := stranger(hang).serve(t, nil)
		_, port, _ := net.SplitHostPort(trap.address)
		r := newRig(t)
		r.options.ConnectTo = map[string][]string{"oidc.example.com:443": {r.serve()}}
		r.metadata["jwks_uri"] = "https://127.0.0.1:" + port + "/keys"
		r.options.AllowPrivate, r.options.Tries = allow, 1
		survive(t, r)
		if came := trap.came.Load() > 0; came != allow {
			t.Errorf("allowed %v, and asked %v", allow, came)
		}
	}
}
