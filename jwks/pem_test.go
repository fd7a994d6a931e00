package jwks_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// relabel returns a PEM block with another label.
func relabel(t testing.TB, name, label string) []byte {
	t.Helper()
	block, rest := pem.Decode(readKey(t, name))
	for next := block; next != nil; next, rest = pem.Decode(rest) { // parameters come first
		block = next
	}
	block.Type = label
	return pem.EncodeToMemory(block)
}

// The label of a block does not matter, as for kube-apiserver.
func TestLabels(t *testing.T) {
	for _, tt := range []struct{ name, label string }{
		{"rsa-public.pem", "RSA PUBLIC KEY"},
		{"rsa-public-pkcs1.pem", "PUBLIC KEY"},
		{"rsa-pkcs8.pem", "RSA PRIVATE KEY"},
		{"rsa-pkcs1.pem", "PRIVATE KEY"},
		{"ec-prime256v1.pem", "PRIVATE KEY"},
		{"ec-prime256v1-public.pem", "EC PUBLIC KEY"},
		{"ec-prime256v1-public.pem", "PRIVATE KEY"},
		{"rsa-certificate.pem", "PUBLIC KEY"},
		{"rsa-certificate.pem", "X509 CERTIFICATE"},
		{"rsa-public.pem", "CERTIFICATE"},
		{"rsa-public.pem", "ANY KEY"},
	} {
		c, err := jwks.ParseFile(relabel(t, tt.name, tt.label))
		if err != nil || len(c.All()) != 1 || len(c.Skipped) > 0 {
			t.Errorf("%s as %s: got %+v, %v", tt.name, tt.label, c, err)
		}
	}
}

// A block that is not supported is skipped, with its position.
func TestUnsupportedBlocks(t *testing.T) {
	sound := readKey(t, "ec-prime256v1-public.pem")
	block := func(label string, data string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: []byte(data)})
	}
	spki := func(text string) []byte {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return block("PUBLIC KEY", string(der))
	}
	for name, tt := range map[string]struct {
		block []byte
		want  string
	}{
		"a small key":      {readKey(t, "rsa-1024.pem"), "1024 bits"},
		"a large key":      {readCase(t, "rsa-8192.pub"), "8192 bits"},
		"exponent 1":       {readCase(t, "rsa-exponent-1.pub"), "exponent is 1"},
		"RSASSA-PSS":       {readCase(t, "rsassa-pss.crt"), "RSASSA-PSS"},
		"P-224":            {readKey(t, "ec-secp224r1.pem"), "P-224"},
		"Ed25519":          {readKey(t, "ed25519.pem"), "want RSA or ECDSA"},
		"X25519, public":   {spki("MCowBQYDK2VuAyEAhSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="), "want RSA or ECDSA"},
		"Ed448":            {spki("MEMwBQYDK2VxAzoAX9dEm1m0Yf0s54fsYWrUajXt+Q6Hl4yMfQ3xQ1zjEUZnmbjvHUKLBbHvUSb0cHmRiqKSkgGjSaUA"), "Ed448"},
		"secp256k1":        {spki("MDYwEAYHKoZIzj0CAQYFK4EEAAoDIgACeb5mfvncu6xVoGKVzocLBwKb/NstzijZWfKBWxb4F5g="), "secp256k1"},
		"a compressed key": {spki("MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgACeb5mfvncu6xVoGKVzocLBwKb/NstzijZWfKBWxb4F5g="), "compressed"},
		"a nameless curve": {spki("MBUwDgYHKoZIzj0CATADAgEBAwMABAA="), "parameters instead of a name"},
		"encrypted":        {readKey(t, "rsa-encrypted.pem"), "encrypted"},
		"encrypted PKCS 8": {readKey(t, "rsa-encrypted-pkcs8.pem"), "encrypted"},
		"OpenSSH":          {block("OPENSSH PRIVATE KEY", "openssh-key-v1\x00"), "OpenSSH"},
		"PGP":              {[]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"), "PGP"},
		"a request":        {block("CERTIFICATE REQUEST", "0"), "request"},
		"a revocation":     {block("X509 CRL", "0"), "no key"},
		"a comment":        {[]byte("# " + strings.ReplaceAll(string(sound), "\n", "\n# ") + "\n"), "in a comment"},
		"another block":    {block("AGE ENCRYPTED FILE", "age-encryption.org/v1"), "no key"},
		"a long label":     {block(strings.Repeat("X", 1<<16), strings.Repeat("0", 1<<17)), "larger than"},
	} {
		for _, data := range [][]byte{
			bytes.Join([][]byte{tt.block, sound}, nil), bytes.Join([][]byte{sound, tt.block}, nil),
			bytes.Join([][]byte{sound, []byte("a comment\n"), tt.block}, nil),
		} {
			c, err := jwks.ParseFile(data)
			if err != nil || len(c.All()) != 1 || len(c.Skipped) != 1 {
				t.Errorf("%s: got %+v, %v", name, c, err)
				continue
			}
			got := c.Skipped[0].Error()
			if !strings.Contains(got, " of 2") || !strings.Contains(got, tt.want) || len(got) > 300 {
				t.Errorf("%s: skipped %q, want %q", name, got, tt.want)
			}
			if _, _, err := jwks.ParsePEM(data); err == nil || err.Error() != got {
				t.Errorf("%s: ParsePEM returned %v", name, err)
			}
		}
	}
	// Beside the key that they belong to.
	with := append(block("EC PARAMETERS", "\x06\x08*\x86H\xce=\x03\x01\x07"), sound...)
	if c, err := jwks.ParseFile(with); err != nil || len(c.Public) != 1 || len(c.Skipped) > 0 {
		t.Errorf("with parameters: got %+v, %v", c, err)
	}
}

// A damaged block is an error that says which one it is, and why.
func TestDamagedBlocks(t *testing.T) {
	sound := string(readKey(t, "rsa-public.pem"))
	body := strings.Join(strings.Split(strings.TrimSpace(sound), "\n")[1:7], "\n")
	block, _ := pem.Decode([]byte(sound))
	corrupt := func(at int) string {
		der := bytes.Clone(block.Bytes)
		der[at] ^= 0x55
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	for name, tt := range map[string]struct{ block, want string }{
		"a byte order mark":     {"\ufeff" + sound, "byte order mark"},
		"indented":              {"  " + strings.ReplaceAll(sound, "\n", "\n  ") + "\n", "indented"},
		"a tab before it":       {"\t" + sound, "indented"},
		"indented END":          {strings.Replace(sound, "-----END", " -----END", 1), "END line is indented"},
		"YAML":                  {"key: " + sound, "other text is before it"},
		"JSON":                  {`"` + strings.ReplaceAll(strings.TrimSpace(sound), "\n", `\n`) + "\"\n", "other text is before it"},
		"escaped line ends":     {strings.ReplaceAll(strings.TrimSpace(sound), "\n", `\n`) + "\n", `written as \n`},
		"line ends of an Apple": {strings.ReplaceAll(sound, "\n", "\r") + "\n", "CR alone"},
		"one line":              {strings.ReplaceAll(strings.TrimSpace(sound), "\n", " ") + "\n", "line ends are missing"},
		"no END":                {strings.Replace(sound, "-----END PUBLIC KEY-----", "", 1), "no END line"},
		"another END":           {strings.Replace(sound, "END PUBLIC", "END PRIVATE", 1), "BEGIN and END lines differ"},
		"a lost BEGIN":          {sound + body + "\n-----END PUBLIC KEY-----\n", "second END line"},
		"a wrong character":     {strings.Replace(sound, "MII", "M!I", 1), "base64 is damaged"},
		"a lost character":      {strings.Replace(sound, "MII", "MI", 1), "base64 is damaged"},
		"an ellipsis":           {strings.Replace(sound, "\nMII", "\n…MII", 1), "base64 is damaged"},
		"a lost line":           {strings.Replace(sound, body[:65], "", 1), "not a valid"},
		"nothing":               {"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", "not a valid"},
		"a wrong length":        {corrupt(1), "not a valid"},
		"a wrong inner length":  {corrupt(26), "not a valid"},
		"a broken private key":  {"-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0IGJ5dGVz\n-----END RSA PRIVATE KEY-----\n", "not a valid"},
	} {
		for at, data := range map[string]string{"PEM block 1 of 2": tt.block + sound, "PEM block 2 of 2": sound + tt.block} {
			if name == "a byte order mark" && at == "PEM block 2 of 2" {
				at = "PEM block 2 of 2 (PUBLIC KEY): "
			}
			c, err := jwks.ParseFile([]byte(data))
			if err == nil || !strings.Contains(err.Error(), at) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %+v, %v, want %q, %q", name, c, err, at, tt.want)
			} else if strings.Contains(err.Error(), "MII") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: the error quotes it: %v", name, err)
			}
		}
	}
}

// What is not PEM at all is named.
func TestNoKey(t *testing.T) {
	sound := string(readKey(t, "rsa-public.pem"))
	block, _ := pem.Decode([]byte(sound))
	ec, _ := pem.Decode(readKey(t, "ec-prime256v1-public.pem"))
	utf16 := func(mark string, before, after string) string {
		for _, c := range sound {
			mark += before + string(c) + after
		}
		return mark
	}
	for name, tt := range map[string]struct{ data, want string }{
		"nothing":              {"", "it is empty"},
		"white space":          {" \r\n\t", "it is empty"},
		"prose":                {"nothing", "want PEM"},
		"HTML":                 {"<!DOCTYPE html><title>Sign in</title>", "HTML"},
		"DER":                  {string(block.Bytes), "DER"},
		"DER of a curve":       {string(ec.Bytes), "DER"},
		"UTF-16":               {utf16("\xff\xfe", "", "\x00"), "UTF-16"},
		"big-endian UTF-16":    {utf16("\xfe\xff", "\x00", ""), "UTF-16"},
		"UTF-16 without mark":  {utf16("", "", "\x00"), "UTF-16"},
		"UTF-16 of an editor":  {utf16("", "\x00", ""), "UTF-16"},
		"an OpenSSH key":       {"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ== me@host\n", "ssh-keygen"},
		"a curve of OpenSSH":   {"ecdsa-sha2-nistp256 AAAA me@host\n", "ssh-keygen"},
		"an SSH key":           {"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----\n", "ssh-keygen"},
		"a key of PuTTY":       {"PuTTY-User-Key-File-3: ssh-rsa\n", "PuTTY"},
		"dashes of a document": {strings.ReplaceAll(sound, "-----", "–––––"), "hyphens"},
		"four hyphens":         {strings.ReplaceAll(sound, "-----", "----"), "hyphens"},
		"base64":               {base64.StdEncoding.EncodeToString([]byte(sound)), "base64"},
		"a JSON array":         {`[{"kty":"RSA"}]`, "not an object"},
		"a PKCS #12":           {"0\x82\x0a\x00\x02\x01\x03\xff", "binary"},
	} {
		_, err := jwks.ParseFile([]byte(tt.data))
		var noKey *jwks.NoKeyError
		if !errors.As(err, &noKey) || !strings.Contains(hint.Text(err, hint.Field), tt.want) {
			t.Errorf("%s: got %s, want %q", name, hint.Text(err, hint.Field), tt.want)
		}
	}
	for name, tt := range map[string]struct{ data, want string }{
		"a mark before JSON": {"\ufeff" + `{"keys":[]}`, "byte order mark"},
		"a single key":       {`{"kty":"RSA","n":"AQ"}`, "put it into"},
		"another document":   {`{"issuer":"https://oidc.example.test"}`, "no array named keys"},
		"half a document":    {`{"keys":[{"kty":`, "unexpected end"},
	} {
		if _, err := jwks.ParseFile([]byte(tt.data)); err == nil || !strings.Contains(hint.Text(err, hint.Field), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	for name, want := range map[string]string{"<html>": "HTML", "\x1f\x8b\x08": "gzip", "\xff\xfe{\x00}\x00": "UTF-16", "": "empty", "[]": "not a JSON object"} {
		if _, _, err := jwks.Filter([]byte(name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Filter(%q): got %v, want %q", name, err, want)
		}
	}
}
