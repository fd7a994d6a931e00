package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

func newKeysCopiesConfirmCommand() *cobra.Command {
	var ring ringFlags
	var from string
	cmd := &cobra.Command{
		Use:   "confirm COPY {KID | --from FILE}",
		Short: "Say that a copy of the key set has a key",
		Long: `Say that a copy of the key set has the key KID. If that is the next key, the copy
has the key set as it was when the key came: the published keys that came no later
are acknowledged with it. Any other key is acknowledged alone. The hand-over to the
next key is planned once every copy has it, for publish-ahead later at the earliest.

With --from, look first: FILE, or - for standard input, is what the copy really
holds, and everything of the key set that is in it is acknowledged, if the next key
(or KID) is. What the copy has lost is not acknowledged any more; a hand-over to it
that is planned waits again, and the command fails, as without the next key.
FILE may be a key set (JWKS), public keys in PEM, or what these print:

  gcloud iam workload-identity-pools providers describe … --format json
  vault read -format json auth/jwt/config

No private key is needed for this: sealed ones stay closed.`,
		Example: `  # The key set has been uploaded, and this was the next key in it
  oidc-provider keys copies confirm google-prod JvL9VBeh-uFhN5rvHhxuhbREw1XFUw2IhH26RaIQqjE

  # Look at what is really there
  gcloud iam workload-identity-pools providers describe cluster-a --workload-identity-pool pool --location global --format json |
    oidc-provider keys copies confirm google-prod --from -

  # Files in a bucket, from a job that runs every hour
  oidc-provider export --out public && aws s3 sync public/oidc.example.com s3://oidc-example-com &&
    curl --fail https://oidc.example.com/openid/v1/jwks | oidc-provider keys copies confirm bucket --from -`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := acknowledgement{name: args[0], kids: args[1:]}
			if cmd.Flags().Changed("from") {
				var err error
				if a.there, err = readHeld(cmd, from); err != nil {
					return err
				}
			}
			a.command = fmt.Sprintf("%s keys copies confirm%s %s", program(), storeArguments(cmd.Flags()), a.name)
			r, _, err := changeCopies(cmd, &ring, a.change)
			a.compared.warn(cmd, a.name) // also when it failed
			if err != nil {
				return err
			}
			return a.report(cmd, r)
		},
	}
	ring.add(cmd)
	cmd.Flags().StringVar(&from, "from", "", "file with what the copy holds, or - for standard input: a key set, PEM, or JSON of gcloud or vault")
	return cmd
}

// An acknowledgement is what a copy is said to have, or what is there.
type acknowledgement struct {
	name    string
	kids    []string // that are asked for, none or one
	there   *held    // nil: take their word for it
	command string   // to which a kid is to be added

	compared comparison // with the last ring
	news     []string   // kids that were acknowledged now
	refused  error      // why nothing was
}

var errNoNextKey = errors.New("there is no next key yet (hint: a server makes one as soon as the last one signs: try again)")

func (a *acknowledgement) change(r *rotation.Ring) (next *rotation.Ring, err error) {
	if err := r.CheckCopy(a.name); err != nil {
		return r, err
	}
	without, now := r, time.Now()
	var kids []string
	if a.there != nil {
		a.compared = a.there.compare(r, r.At(now))
		if without, err = a.compared.unacknowledge(r, a.name, now); err != nil {
			return r, err
		}
		if kids, a.refused = a.compared.acknowledge(a.name, a.kids); a.refused != nil {
			return without, nil // what is lost is written all the same
		}
	} else if kids, err = a.said(r, r.At(now)); err != nil {
		return r, err
	}
	next, a.refused = rotation.ConfirmCopy(without, a.name, now, kids...)
	a.news = acknowledged(next, r, a.name)
	return next, nil
}

// said are the kids that somebody vouches for: the one that is given and, since
// it stood in the key set with them, those before the next key.
func (a *acknowledgement) said(r *rotation.Ring, at time.Time) (kids []string, err error) {
	next := r.Standby(at)
	switch {
	case len(a.kids) == 0 && next == nil:
		return nil, errNoNextKey
	case len(a.kids) == 0:
		return nil, fmt.Errorf("say which key is there: a later one may be next by now (hint: `%s %s` if copy %s has that, which is next; or let --from look)", a.command, next.KeyID, a.name)
	case next == nil || next.KeyID != a.kids[0]:
		return a.kids, nil
	}
	for i := range r.Keys {
		if k := &r.Keys[i]; k.InKeySet() && !k.PublishAt.After(next.PublishAt) {
			kids = append(kids, k.KeyID)
		}
	}
	return kids, nil
}

// report says what was made of r, with an error if a key is missing.
func (a *acknowledgement) report(cmd *cobra.Command, r *rotation.Ring) error {
	c := &a.compared
	c.warnOfPlan(cmd, r, a.name)
	if a.refused != nil {
		return a.refused
	}
	out := cmd.OutOrStdout()
	if len(a.news) > 0 {
		fmt.Fprintf(out, "Copy %s has %s. The keys are\n", a.name, strings.Join(a.news, ", "))
	} else {
		fmt.Fprintf(out, "Copy %s has acknowledged that already. The keys are\n", a.name)
	}
	printKeys(out, r)
	if c.lostNext() {
		return fmt.Errorf("copy %s does not have key %s, which is next (hint: bring the key set there, %s)", a.name, c.next, c.source)
	}
	return nil
}

// acknowledged are the kids that copy name has acknowledged in r and not before.
func acknowledged(r, before *rotation.Ring, name string) (kids []string) {
	for i := range r.Keys {
		if !r.Keys[i].CopyConfirmedAt[name].IsZero() && before.Keys[i].CopyConfirmedAt[name].IsZero() {
			kids = append(kids, r.Keys[i].KeyID)
		}
	}
	return kids
}

// held is what a copy really has.
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
		return nil, fmt.Errorf("no whole JSON document: %w", err)
	}
	const fetches = "there are no keys in it: %s asks the issuer for them, and no hand-over needs to wait for it (hint: `oidc-provider keys copies remove`)"
	switch {
	case shown.OIDC != nil && shown.OIDC.KeySet == "":
		return nil, fmt.Errorf(fetches, "Google Cloud")
	case shown.OIDC != nil:
		data = []byte(shown.OIDC.KeySet)
	case shown.Data != nil && len(shown.Data.PEM) == 0:
		return nil, fmt.Errorf(fetches, "Vault")
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
		return nil, fmt.Errorf("the private half of key %s is in it: whoever can read the copy can sign (hint: take the key out of use, and copy public halves only)", private[0].KeyID())
	}
	return &held{keys: public}, nil
}

// A comparison is of what a copy has with what it should have.
type comparison struct {
	// has and lacks are the kids of the key set. next is that of the next key,
	// "" if there is none.
	has, lacks []string
	next       string
	rid        []string // revoked ones that are not there
	phases     map[string]rotation.Phase
	// strange is what is there and should not be, in words.
	strange []string
	skipped []error // what relying parties pass over
	source  string  // of the key set

	// lost are those of lacks that the copy has acknowledged. If the next key is
	// among them its hand-over was planned for planned, and a server may keep to
	// that, from signs on; both may be zero.
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

// strange says what key is, which stands in a copy and not, like that, in the
// key set.
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

// unacknowledge takes back in r what the copy has lost.
func (c *comparison) unacknowledge(r *rotation.Ring, name string, now time.Time) (next *rotation.Ring, err error) {
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

// acknowledge returns the kids that may be acknowledged: if those that are asked
// for, or the next one, are not there, that is an error.
func (c *comparison) acknowledge(name string, kids []string) ([]string, error) {
	want := kids
	if len(want) == 0 {
		want = []string{c.next}
	}
	if c.next == "" && len(kids) == 0 {
		return nil, errNoNextKey
	}
	for _, kid := range want {
		if slices.Contains(c.lacks, kid) {
			return nil, fmt.Errorf("copy %s does not have key %s, which %s: nothing was acknowledged (hint: bring the key set there, %s)", name, kid, phaseWords[c.phases[kid]], c.source)
		}
	}
	all := slices.Clone(c.has)
	for _, kid := range want {
		if !slices.Contains(all, kid) {
			all = append(all, kid) // ConfirmCopy says why not
		}
	}
	return all, nil
}

var phaseWords = map[rotation.Phase]string{
	rotation.Next: "is next", rotation.Active: "signs", rotation.Retired: "verifies", rotation.Revoked: "is revoked",
}

// warn tells what is wrong with the copy beside the key that was asked for.
func (c *comparison) warn(cmd *cobra.Command, name string) {
	for _, kid := range c.lacks {
		verb := "does not have"
		if slices.Contains(c.lost, kid) {
			verb = "has lost"
		}
		if phase := c.phases[kid]; phase != rotation.Next {
			warn(cmd, "copy %s %s key %s, which %s: tokens by it are rejected there", name, verb, kid, phaseWords[phase])
		}
	}
	for _, err := range c.skipped {
		warn(cmd, "copy %s has something that was passed over: %v", name, err)
	}
	for _, what := range c.strange {
		warn(cmd, "copy %s has what the key set has not: %s (hint: put the key set in place of all that is there; whoever has the private half of a key too many can forge tokens)", name, what)
	}
}

// warnOfPlan says what has become of the next hand-over, if the copy has lost
// the key, in the ring as it was written.
func (c *comparison) warnOfPlan(cmd *cobra.Command, r *rotation.Ring, name string) {
	switch {
	case !c.lostNext():
	case c.planned.IsZero() || !c.signs.IsZero():
		warn(cmd, "copy %s has lost key %s, which is next", name, c.next)
		warnOfPlan(cmd, r, name, c.signs)
	default:
		warn(cmd, "copy %s has lost key %s: the hand-over at %s is taken back", name, c.next, formatTime(c.planned))
	}
}
