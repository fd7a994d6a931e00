package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// held is what a copy really contains.
type held struct {
	keys    []jwks.PublicKey
	skipped []error // what else there is
}

// maxKeySet, in bytes, is far above what any relying party reads.
const maxKeySet = 1 << 20

// readHeld reads what a copy has from a file, or standard input for -.
func readHeld(cmd *cobra.Command, name string) (*held, error) {
	data, err := readInput(cmd, name)
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeySet {
		return nil, fmt.Errorf("%s: more than %d bytes are no key set", name, maxKeySet)
	}
	h, err := parseHeld(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return h, nil
}

func parseHeld(data []byte) (*held, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return heldPEM(data)
	}
	var shown struct {
		// A provider of a Google Cloud workload identity pool.
		OIDC *struct {
			KeySet string `json:"jwksJson"`
		} `json:"oidc"`
		// The configuration of a Vault auth method jwt.
		Data *struct {
			PEM []string `json:"jwt_validation_pubkeys"`
		} `json:"data"`
	}
	if err := json.Unmarshal(data, &shown); err != nil {
		return nil, fmt.Errorf("not a complete JSON document: %w", err)
	}
	fetches := func(party string) error {
		return hint.Errorf("`oidc-provider keys copies remove`",
			"it contains no keys: %s fetches them from the issuer, and no rotation needs to wait for it", party)
	}
	switch {
	case shown.OIDC != nil && shown.OIDC.KeySet == "":
		return nil, fetches("Google Cloud")
	case shown.OIDC != nil:
		data = []byte(shown.OIDC.KeySet)
	case shown.Data != nil && len(shown.Data.PEM) == 0:
		return nil, fetches("Vault")
	case shown.Data != nil:
		return heldPEM([]byte(strings.Join(shown.Data.PEM, "\n")))
	}
	keys, skipped, err := jwks.Filter(data)
	return &held{keys, skipped}, err
}

func heldPEM(data []byte) (*held, error) {
	private, public, err := jwks.ParsePEM(data)
	if err != nil {
		return nil, err
	}
	if len(private) > 0 {
		return nil, hint.Errorf("revoke the key, and copy only public halves",
			"the private half of key %s is in it: anyone who can read the copy can sign", private[0].KeyID())
	}
	return &held{keys: public}, nil
}

// A comparison says how what a copy contains differs from what it should contain.
type comparison struct {
	// has and lacks are the kids of the key set. next is the kid of the next key,
	// "" without one.
	has, lacks []string
	next       string
	rid        []string // revoked ones that are not there
	phases     map[string]rotation.Phase
	// strange describes what is there and should not be.
	strange []string
	skipped []error // what relying parties pass over
	source  string  // of the key set

	// lost are the keys of lacks that the copy had confirmed. If the next key is one
	// of them, planned is when its rotation was planned, and signs is from when a
	// server may still follow that plan. Both may be zero.
	lost           []string
	planned, signs time.Time
}

func (h *held) compare(r *rotation.Ring, at time.Time) comparison {
	c := comparison{phases: make(map[string]rotation.Phase), source: keySetURL(r)}
	if standby := r.Standby(at); standby != nil {
		c.next = standby.KeyID
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		c.phases[k.KeyID] = k.Phase(at)
		there := slices.ContainsFunc(h.keys, func(key jwks.PublicKey) bool {
			return key.KeyID() == k.KeyID && bytes.Equal(key.PKIX(), k.Public)
		})
		switch {
		case !k.Published() && !there:
			c.rid = append(c.rid, k.KeyID)
		case !k.InKeySet():
		case there:
			c.has = append(c.has, k.KeyID)
		default:
			c.lacks = append(c.lacks, k.KeyID)
		}
	}
	for _, key := range h.keys {
		if !slices.Contains(c.has, key.KeyID()) {
			c.strange = append(c.strange, strange(r, key))
		}
	}
	c.skipped = h.skipped
	return c
}

// strange describes a key of a copy that the key set does not contain like that.
func strange(r *rotation.Ring, key jwks.PublicKey) string {
	i := slices.IndexFunc(r.Keys, func(k rotation.Key) bool { return k.KeyID == key.KeyID() })
	own := slices.IndexFunc(r.Keys, func(k rotation.Key) bool { return bytes.Equal(k.Public, key.PKIX()) })
	switch {
	case i >= 0 && i != own:
		return fmt.Sprintf("another key under the kid %s", key.KeyID())
	case own >= 0 && i != own:
		return fmt.Sprintf("key %s under the kid %.64q, where its tokens do not find it", r.Keys[own].KeyID, key.KeyID())
	case i >= 0 && !r.Keys[i].Published():
		return fmt.Sprintf("key %s, which is revoked", key.KeyID())
	case i >= 0:
		return fmt.Sprintf("key %s, which is excluded from discovery", key.KeyID())
	case r.Knows(key.KeyID()):
		return fmt.Sprintf("key %s, which was removed", key.KeyID())
	}
	return fmt.Sprintf("key %.64q, which was never in the ring", key.KeyID())
}

// unconfirm withdraws in r the confirmation of what the copy has lost.
func (c *comparison) unconfirm(r *rotation.Ring, name string, now time.Time) (next *rotation.Ring, err error) {
	for _, k := range r.Keys {
		if slices.Contains(c.lacks, k.KeyID) && !k.CopyConfirmedAt[name].IsZero() {
			c.lost = append(c.lost, k.KeyID)
			if k.KeyID == c.next {
				c.planned = k.SignFrom
			}
		}
	}
	next, c.signs, err = rotation.UnconfirmCopy(r, name, now, slices.Concat(c.lost, c.rid)...)
	return next, err
}

func (c *comparison) lostNext() bool { return slices.Contains(c.lost, c.next) }

// confirm returns the kids that may be confirmed. It is an error if the given
// ones, or the next one, are missing.
func (c *comparison) confirm(name string, kids []string) ([]string, error) {
	want := kids
	if len(want) == 0 {
		want = []string{c.next}
	}
	if c.next == "" && len(kids) == 0 {
		return nil, errNoNextKey
	}
	for _, kid := range want {
		if slices.Contains(c.lacks, kid) {
			return nil, hint.Errorf("update the copy with the key set, "+c.source,
				"copy %s does not have key %s, which %s: nothing was confirmed", name, kid, phaseWords[c.phases[kid]])
		}
	}
	all := slices.Clone(c.has)
	for _, kid := range want {
		if !slices.Contains(all, kid) {
			all = append(all, kid) // ConfirmCopy returns the reason
		}
	}
	return all, nil
}

var phaseWords = map[rotation.Phase]string{
	rotation.Next: "is next", rotation.Active: "signs", rotation.Retired: "verifies", rotation.Revoked: "is revoked",
}

// warn prints what is wrong with the copy beside the given key.
func (c *comparison) warn(cmd *cobra.Command, name string) {
	for _, kid := range c.lacks {
		verb := "does not have"
		if slices.Contains(c.lost, kid) {
			verb = "has lost"
		}
		if phase := c.phases[kid]; phase != rotation.Next {
			warn(cmd, "copy %s %s key %s, which %s: its tokens are rejected there", name, verb, kid, phaseWords[phase])
		}
	}
	for _, err := range c.skipped {
		warn(cmd, "copy %s has something that relying parties ignore: %v", name, err)
	}
	for _, what := range c.strange {
		warn(cmd, "copy %s has what the key set does not have: %s (hint: replace everything there by the key set; "+
			"anyone with the private half of an extra key can forge tokens)", name, what)
	}
}

// warnOfPlan prints what became of the next rotation if the copy has lost the key,
// in the ring as it was written.
func (c *comparison) warnOfPlan(cmd *cobra.Command, r *rotation.Ring, name string) {
	switch {
	case !c.lostNext():
	case c.planned.IsZero() || !c.signs.IsZero():
		warn(cmd, "copy %s has lost key %s, which is next", name, c.next)
		warnOfPlan(cmd, r, name, c.signs)
	default:
		warn(cmd, "copy %s has lost key %s: the rotation at %s is withdrawn", name, c.next, formatTime(c.planned))
	}
}
