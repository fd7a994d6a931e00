package seal_test

import (
	"bytes"
	"testing"

	"filippo.io/age"

	"oidc-provider/internal/seal"
	"oidc-provider/internal/seal/kmstest"
)

// plugged returns a running plugin, and a sealer that is connected to it.
func plugged(t testing.TB, ids ...identity) (*kmstest.KMS, *seal.Sealer, string) {
	t.Helper()
	k, path := kmstest.New(t), kmstest.Socket(t)
	t.Cleanup(k.Start(t, path))
	cfg := seal.Config{KMSSocket: path}
	for _, id := range ids {
		cfg.IdentityFiles = append(cfg.IdentityFiles, id.file)
	}
	return k, open(t, cfg), path
}

// forged is a recipient that writes forged stanzas of a KMS plugin.
type forged []age.Stanza

func (f forged) Wrap([]byte) ([]*age.Stanza, error) {
	var list []*age.Stanza
	for _, s := range f {
		s.Type = "oidc-provider/kms-v2"
		list = append(list, &s)
	}
	return list, nil
}

func (f forged) file(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, f)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
