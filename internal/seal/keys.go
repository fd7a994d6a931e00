package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"
)

// CheckRecipients reports what is wrong with recipients: each must be an age
// public key (age1…, or age1pq1…, the post-quantum kind) or the word kms, the
// KMS plugin of whoever seals. age does not mix its two kinds, since the older
// would undo what the newer is for. A KMS plugin goes with both: how it keeps
// its keys is its own affair.
func CheckRecipients(recipients []string) error {
	_, _, err := parseRecipients(recipients)
	return err
}

func parseRecipients(recipients []string) (to []age.Recipient, kms bool, err error) {
	if len(recipients) == 0 {
		return nil, false, errors.New("no recipients (hint: --recipient age1… or --recipient kms)")
	}
	seen := map[string]bool{}
	for i, s := range recipients {
		// Few bytes of it are repeated: who pastes the wrong thing here may
		// paste a secret.
		name := fmt.Sprintf("recipient %d (%q)", i+1, abbreviate(s, 12))
		upper := strings.ToUpper(s)
		parsed, err := age.ParseRecipients(strings.NewReader(s))
		switch {
		case strings.Contains(upper, "AGE-SECRET-KEY") || strings.Contains(upper, "AGE-PLUGIN-"):
			return nil, false, fmt.Errorf("recipient %d is a private key, not a recipient (hint: `age-keygen -y FILE` prints the recipient; others may have seen this key now, so make a new one)", i+1)
		case seen[s]:
			return nil, false, fmt.Errorf("%s is given twice (hint: leave one out)", name)
		case s == "kms":
			kms = true
		case strings.HasPrefix(s, "ssh-"):
			return nil, false, fmt.Errorf("%s: SSH keys are not supported (hint: `age-keygen -o FILE` makes an age identity)", name)
		case err != nil || len(parsed) != 1 || fmt.Sprint(parsed[0]) != s:
			return nil, false, fmt.Errorf("%s is neither an age public key nor the word kms (hint: `age-keygen -y FILE` prints age1…; recipients of age plugins are not supported)", name)
		default:
			to = append(to, parsed[0])
		}
		seen[s] = true
	}
	if len(to) > 0 {
		// Only encryption shows keys that do not go together, or are no points
		// of the curve.
		if _, err := age.Encrypt(io.Discard, to...); err != nil {
			return nil, false, fmt.Errorf("recipients: %w (hint: give either age1… or age1pq1… keys; kms goes with both)", err)
		}
	}
	return to, kms, nil
}

// labels are what a KMS recipient must claim to stand beside to.
func labels(to []age.Recipient) []string {
	for _, r := range to {
		if _, ok := r.(*age.HybridRecipient); ok {
			return []string{"postquantum"}
		}
	}
	return nil
}

// maxIdentities is room for hundreds of identities.
const maxIdentities = 64 << 10

// readIdentities returns the identities in a file and their recipients. Errors
// do not repeat any of the content.
func readIdentities(path string) (ids []age.Identity, public []string, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w (hint: name the file that age-keygen wrote)", fs.ErrNotExist)
	} else if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		return nil, nil, errors.New("it is a directory (hint: name the file in it)")
	}
	if err := checkMode(info, path); err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxIdentities+1))
	switch {
	case err != nil:
		return nil, nil, err
	case len(data) > maxIdentities:
		return nil, nil, fmt.Errorf("it has more than %d KiB (hint: name the file that age-keygen wrote)", maxIdentities>>10)
	case bytes.HasPrefix(data, []byte("age-encryption.org/")) || bytes.HasPrefix(data, []byte("-----BEGIN AGE ENCRYPTED FILE-----")):
		return nil, nil, fmt.Errorf("it is encrypted, and nobody is there to ask for a passphrase (hint: --age-identity <(age -d %s) in bash)", path)
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
			return nil, nil, fmt.Errorf("line %d is not an age identity, or a mistyped one (hint: name the file that age-keygen wrote; SSH keys and age plugins are not supported)", n)
		}
		for _, id := range parsed {
			switch id := id.(type) {
			case *age.X25519Identity:
				public = append(public, id.Recipient().String())
			case *age.HybridIdentity:
				public = append(public, id.Recipient().String())
			default:
				return nil, nil, fmt.Errorf("line %d is an identity of a kind that is not supported", n)
			}
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil, errors.New("there is no identity in it (hint: name the file that age-keygen wrote)")
	}
	return ids, public, nil
}

// checkMode refuses what others may read, as ssh does with its keys.
func checkMode(info fs.FileInfo, path string) error {
	mode := info.Mode().Perm()
	if mode&0o077 == 0 || mode&0o037 == 0 && belongsToAnother(info) {
		return nil
	}
	return fmt.Errorf("mode %04o lets others reach the identity (hint: run `chmod 600 %s`)", mode, path)
}
