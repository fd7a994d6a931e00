package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// A kid may begin with a dash, and whoever revokes a key has no time for --.
func TestKeyIDsThatLookLikeFlags(t *testing.T) {
	store := t.TempDir() + "/keys"
	kid := "-" + strings.Repeat("5_-aB9z", 6)
	command := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := run(context.Background(), append(args, "--store", store), strings.NewReader(""), &out, &out)
		return code, out.String()
	}
	if code, out := command("keys", "init", "--issuer", "https://oidc.example.com", "--algorithm", "ES256"); code != 0 {
		t.Fatal(out)
	}
	if code, out := command("keys", "copies", "add", "google"); code != 0 {
		t.Fatal(out)
	}
	for _, args := range [][]string{{"revoke", kid}, {"copies", "confirm", "google", kid}} {
		if code, out := command(append([]string{"keys"}, args...)...); code != 1 || !strings.Contains(out, `no key "`+kid) {
			t.Errorf("%q: exit status %d, %s", args, code, out)
		}
	}
	if code, out := command("keys", "revoke", "-x"); code != 1 || !strings.Contains(out, "shorthand flag") {
		t.Errorf("a flag that there is not: exit status %d, %s", code, out)
	}
}
