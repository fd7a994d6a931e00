package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"filippo.io/age"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
)

// CheckRecipients returns an error if recipients are not valid. Each must be an age
// public key (age1…, or age1pq1…, the post-quantum kind) or the word kms, which
// means the KMS plugin of the Sealer. age does not mix its two kinds, since one
// recipient of the older kind would undo the protection of the newer. A KMS plugin
// can be combined with both: how it protects its keys is up to the plugin.
func CheckRecipients(recipients []string) error {
	_, _, err := parseRecipients(recipients)
	return err
}

var secret = regexp.MustCompile(`(?i)AGE-(SECRET-KEY|PLUGIN)-|-----BEGIN [A-Z ]*PRIVATE KEY-----`)

// IsSecret reports whether text is a private key, or contains one, of age or in
// PEM: such a text may not be shown.
func IsSecret(text string) bool { return secret.MatchString(text) }

func parseRecipients(recipients []string) (to []age.Recipient, kms bool, err error) {
	if len(recipients) == 0 {
		return nil, false, hint.Errorf("name at least one: an age public key (age1…), or the word kms", "no recipients")
	}
	seen := map[string]bool{}
	for i, s := range recipients {
		// Only a few bytes are quoted: what was pasted here by mistake may be
		// a secret.
		name := fmt.Sprintf("recipient %d (%q)", i+1, abbreviate(s, 12))
		parsed, err := age.ParseRecipients(strings.NewReader(s))
		switch {
		case IsSecret(s) || strings.Contains(strings.ToUpper(s), "AGE-SECRET-KEY"):
			return nil, false, hint.Errorf(
				"create a new key, since others may have seen this one, and use what `age-keygen -y FILE` prints",
				"recipient %d is a private key, not a recipient", i+1)
		case seen[s]:
			return nil, false, hint.Errorf("remove one of them", "%s is given twice", name)
		case s == "kms":
			kms = true
		case strings.HasPrefix(s, "ssh-"):
			return nil, false, hint.Errorf("create an age identity with `age-keygen -o FILE`",
				"%s: SSH keys are not supported", name)
		case err != nil || len(parsed) != 1 || fmt.Sprint(parsed[0]) != s:
			return nil, false, hint.Errorf("`age-keygen -y FILE` prints the public key (age1…); age plugins are not supported",
				"%s is neither an age public key nor the word kms", name)
		default:
			to = append(to, parsed[0])
		}
		seen[s] = true
	}
	if len(to) > 0 {
		// Only encryption detects keys that cannot be combined, or that are not
		// points of the curve.
		if _, err := age.Encrypt(io.Discard, to...); err != nil {
			return nil, false, hint.Errorf("use only age1… or only age1pq1… keys; kms can be combined with both",
				"recipients: %w", err)
		}
	}
	return to, kms, nil
}

// labels returns the labels that a KMS recipient needs to be combined with to: age
// only combines recipients with equal labels.
func labels(to []age.Recipient) []string {
	for _, r := range to {
		if _, ok := r.(*age.HybridRecipient); ok {
			return []string{"postquantum"}
		}
	}
	return nil
}

// maxIdentities is the largest identity file that is read, in bytes: hundreds of
// identities fit.
const maxIdentities = 64 << 10

// fromKeygen is the hint for a file that contains something else.
const fromKeygen = "set {ageIdentities} to a file that age-keygen wrote"

// readIdentities returns the identities in a file and their recipients. Errors do
// not quote the content. The file may be a pipe, as in a shell's <(age -d FILE).
func readIdentities(path string) (ids []age.Identity, public []string, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, hint.Wrap(fs.ErrNotExist, fromKeygen)
	} else if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		return nil, nil, hint.Errorf("set {ageIdentities} to a file in it", "it is a directory")
	}
	if err := checkMode(info, path); err != nil {
		return nil, nil, err
	}
	data, err := input.ReadAtMost(file, maxIdentities)
	switch {
	case errors.Is(err, input.ErrTooLarge):
		return nil, nil, hint.Wrap(err, fromKeygen)
	case err != nil:
		return nil, nil, err
	case bytes.HasPrefix(data, []byte("age-encryption.org/")),
		bytes.HasPrefix(data, []byte("-----BEGIN AGE ENCRYPTED FILE-----")):
		help := fmt.Sprintf("decrypt it with `age -d %s`; in bash, {ageIdentities} can be <(age -d %[1]s)", path)
		return nil, nil, hint.Errorf(help, "it is encrypted with a passphrase, which a server cannot ask for")
	}
	return parseIdentities(data)
}

func parseIdentities(data []byte) (ids []age.Identity, public []string, err error) {
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		parsed, err := age.ParseIdentities(strings.NewReader(line))
		if err != nil {
			return nil, nil, hint.Errorf(fromKeygen+"; SSH keys and age plugins are not supported",
				"line %d is not an age identity, or mistyped", n)
		}
		for _, id := range parsed {
			switch id := id.(type) {
			case *age.X25519Identity:
				public = append(public, id.Recipient().String())
			case *age.HybridIdentity:
				public = append(public, id.Recipient().String())
			default:
				return nil, nil, hint.Errorf(fromKeygen, "line %d is an identity of a kind that is not supported", n)
			}
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil, hint.Errorf(fromKeygen, "it contains no identity")
	}
	return ids, public, nil
}

// checkMode refuses a file that other users can read, as ssh does for its keys.
func checkMode(info fs.FileInfo, path string) error {
	mode := info.Mode().Perm()
	if mode&0o077 == 0 || mode&0o037 == 0 && belongsToAnother(info) {
		return nil
	}
	return hint.Errorf("run `chmod 600 "+path+"`", "mode %04o gives other users access to the identity", mode)
}
