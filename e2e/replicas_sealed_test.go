package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// client speaks to the members directly.
func etcdClient(t testing.TB, members ...*etcdMember) *clientv3.Client {
	t.Helper()
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.client)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// checkSealed looks at all that etcd holds, and has ever held: the ring is signed,
// and every private key in it is sealed.
func (p *controlPlane) checkSealed() {
	t := p.lab.t
	t.Helper()
	resp, err := etcdClient(t, p.members...).Get(t.Context(), "", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) != 1 {
		t.Errorf("etcd holds %d keys, want the ring alone", len(resp.Kvs))
	}
	checkSealedDocument(t, resp.Kvs[0].Value)
	for _, m := range p.members {
		checkNothingBare(t, p.lab.path(m.name))
	}
}

// A signedRing is what the tests look at in the document of a signed ring.
type signedRing struct {
	Version    int               `json:"version"`
	Signatures []json.RawMessage `json:"signatures"`
	Ring       struct {
		Recipients []string `json:"recipients"`
		Keys       []struct {
			KeyID   string `json:"kid"`
			Private []byte `json:"private"`
			Sealed  []byte `json:"sealed"`
		} `json:"keys"`
	} `json:"ring"`
}

// checkSealedDocument also wants the version of signed rings: a server that knows no
// signatures refuses it.
func checkSealedDocument(t testing.TB, document []byte) signedRing {
	t.Helper()
	var r signedRing
	if err := json.Unmarshal(document, &r); err != nil {
		t.Fatal(err)
	}
	if r.Version != 3 || len(r.Signatures) == 0 {
		t.Errorf("the document has version %d and %d signatures, want version 3 and one at least", r.Version, len(r.Signatures))
	}
	sealed := 0
	for _, k := range r.Ring.Keys {
		if len(k.Private) > 0 {
			t.Errorf("key %s stands in etcd with its private half", k.KeyID)
		}
		if len(k.Sealed) == 0 {
			continue
		}
		sealed++
		if !bytes.HasPrefix(k.Sealed, []byte("age-encryption.org/v1\n")) {
			t.Errorf("key %s is not sealed with age: %.30q", k.KeyID, k.Sealed)
		}
	}
	if sealed < 2 {
		t.Errorf("%d keys are sealed in etcd, want the active one and the next at least", sealed)
	}
	return r
}

// checkNothingBare looks for the beginning of a private key in PKCS #8, as it
// is and in base64, in all files of a member: etcd keeps what was there before.
func checkNothingBare(t testing.TB, dir string) {
	t.Helper()
	der := []byte("\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01") // of an EC key
	bare := [][]byte{der, []byte(base64.StdEncoding.EncodeToString(der[:15])), []byte(`"private"`)}
	rings := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, b := range bare {
			if bytes.Contains(data, b) {
				t.Errorf("%s has %q in it", path, b)
			}
		}
		rings += strings.Count(string(data), `"recipients"`)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if rings == 0 {
		t.Errorf("no ring found in %s, so nothing was checked", dir)
	}
}
