package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

func newKeysImportCommand() *cobra.Command {
	var ring changeFlags
	var policy policyFlags
	var seal recipientFlag
	var exclude bool
	var lifetime time.Duration
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Bring in a key that was made elsewhere",
		Long: `Bring in a key that was made elsewhere, from a PEM file or - for standard input.

A private key starts a ring and signs at once, so that a cluster's own sa.key
stays in use under the same kid. The store must be empty, which needs --issuer and takes
the policy flags of init, or hold a ring that no server has published yet. Once
it retires, the key stays published for as long as tokens may live that it has
signed elsewhere: a year, unless --issued-token-lifetime says otherwise, since
that is what kube-apiserver gives the tokens of Pods by default.

A public key, a certificate, or a key set (JWKS) in JSON is published so that
its tokens verify, until it is revoked. Keys that the ring has already are
skipped, so that the command can be run again. Keys that relying parties cannot use
are skipped with a warning, since they would make them refuse the whole key set. If a
PEM block is damaged, nothing is imported. With --exclude-from-discovery only
kube-apiserver sees the key: that is for the keys of legacy Secret tokens.`,
		Example: `  # Continue with the key that kube-apiserver has used so far
  oidc-provider keys import /etc/kubernetes/pki/sa.key --issuer https://oidc.example.com

  # Verify tokens of another key
  oidc-provider keys import old-sa.pub

  # Make a ring that was restored from an old backup know what the world has seen since
  curl https://oidc.example.com/openid/v1/jwks | oidc-provider keys import -`,
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lifetime < 0 || lifetime > 10*rotation.ExtendedLifetime {
				return fmt.Errorf("--issued-token-lifetime %v: want up to %v", lifetime, 10*rotation.ExtendedLifetime)
			}
			if err := seal.check(); err != nil {
				return err
			}
			keys, err := readKeys(cmd, args[0])
			if err != nil {
				return err
			}
			_, issuer, err := ring.resolve(cmd)
			if err != nil {
				return err
			}
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			var r *rotation.Ring
			var imported []string
			switch {
			case len(keys.Private) == 1 && len(keys.Public) == 0:
				if exclude {
					return hint.Errorf("import the public half: openssl pkey -pubout",
						"--exclude-from-discovery is for public keys: a key that signs must be in the key set")
				}
				p, err := policy.newPolicy(cmd.Flags(), &ring.ringFlags)
				if err != nil {
					return err
				}
				key := signingImport{keys.Private[0], lifetime, issuer, p, seal.recipients}
				if r, imported, err = key.run(cmd, s); err != nil {
					return err
				}
			case len(keys.Private) == 0:
				if seal.recipients != nil {
					return errors.New("--recipient is for private keys, and these are public")
				}
				if r, imported, err = importVerifying(cmd, s, keys.Public, exclude); err != nil {
					return err
				}
			default:
				return fmt.Errorf("%s holds %d private and %d public keys: want one private key, or public keys only", args[0],
					len(keys.Private), len(keys.Public))
			}
			out := cmd.OutOrStdout()
			for _, kid := range imported {
				fmt.Fprintf(out, "Imported %s.\n", kid)
			}
			if len(imported) == 0 {
				fmt.Fprintln(out, "Nothing to import: the ring has that already.")
			}
			fmt.Fprintln(out, "The keys are now:")
			describe.Keys(out, r, time.Now())
			return nil
		},
	}
	ring.add(cmd)
	policy.add(cmd)
	seal.add(cmd.Flags(), "seal the private keys of a new ring for")
	cmd.Flags().DurationVar(&lifetime, "issued-token-lifetime", rotation.ExtendedLifetime,
		"longest lifetime, a `DURATION`, of tokens that a private key has signed elsewhere")
	cmd.Flags().BoolVar(&exclude, "exclude-from-discovery", false, "show a public key to kube-apiserver only")
	return cmd
}

// readKeys reads keys in PEM, or public ones in a key set. It prints a warning for
// each key that is not used: other keys of the file may be what is wanted.
func readKeys(cmd *cobra.Command, name string) (*jwks.Contents, error) {
	data, err := readInput(cmd, name, maxInput)
	if err != nil {
		return nil, err
	}
	keys, err := jwks.ParseFile(data)
	if err == nil {
		skipOtherKIDs(keys)
		err = keys.Check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, why := range keys.Skipped {
		warnError(cmd, fmt.Errorf("not imported: %s: %w", name, why))
	}
	return keys, nil
}

// skipOtherKIDs skips the keys of a key set whose kids are not those that Kubernetes
// gives: under the latter, their tokens would not verify.
func skipOtherKIDs(keys *jwks.Contents) {
	keys.Public = slices.DeleteFunc(keys.Public, func(key jwks.PublicKey) bool {
		derived, err := jwks.ParsePKIX(key.PKIX())
		if err == nil && derived.KeyID() != key.KeyID() {
			err = fmt.Errorf("key %.64q would be published with the kid %s, so that its tokens do not verify",
				key.KeyID(), derived.KeyID())
		}
		if err != nil {
			keys.Skipped = append(keys.Skipped, err)
		}
		return err != nil
	})
}

// A signingImport starts a ring with a private key, in an empty store or one that no
// server has published yet.
type signingImport struct {
	key        *jwks.SigningKey
	lifetime   time.Duration // of tokens that were signed elsewhere
	issuer     string
	policy     rotation.Policy
	recipients []string
}

func (i *signingImport) run(cmd *cobra.Command, s *store.Handle) (r *rotation.Ring, imported []string, err error) {
	r, err = s.Update(cmd.Context(), func(r *rotation.Ring) (*rotation.Ring, error) {
		if i.recipients != nil && !slices.Equal(i.recipients, r.Recipients) {
			return r, hint.Errorf(fmt.Sprintf("omit --recipient, and run `%s keys reseal` before or after", program()),
				"the ring already exists, with keys that are sealed for %s", names(r.Recipients))
		}
		r, err := rotation.SetPolicy(r, i.policy, time.Now())
		if err != nil {
			return r, err
		}
		imported = nil
		switch k := heldKey(r, i.key.KeyID()); {
		case k != nil && k.VerifyOnly:
			return r, hint.Errorf("start a new ring in another store",
				"the ring has key %s as a public key already, and a private key can only start a ring", k.KeyID)
		case k != nil:
			return r, nil
		}
		imported = []string{i.key.KeyID()}
		return rotation.ImportSigning(r, i.key, i.lifetime, time.Now())
	})
	if !errors.Is(err, rotation.ErrEmpty) {
		return r, imported, err
	}
	r, err = i.start(cmd, s)
	return r, []string{i.key.KeyID()}, err
}

// start makes a ring in an empty store.
func (i *signingImport) start(cmd *cobra.Command, s *store.Handle) (*rotation.Ring, error) {
	if i.issuer == "" {
		return nil, hint.Errorf("add --issuer with the URL of kube-apiserver's --service-account-issuer",
			"store %s is empty, and a new ring needs its issuer", s)
	}
	parsed, err := parseIssuer(cmd, i.issuer)
	if err != nil {
		return nil, err
	}
	for _, w := range i.policy.Warnings() {
		warn(cmd, "%s", w)
	}
	r, err := rotation.NewFrom(i.key, i.lifetime, parsed.String(), i.policy, time.Now(), rotation.GenerateKey)
	if err != nil {
		return nil, err
	}
	r.Recipients = i.recipients
	if r, err = enroll(cmd, s, r); err != nil {
		return nil, err
	}
	if w := s.PlainWarning(r); w != "" {
		warn(cmd, "%s", w)
	}
	return r, s.Create(cmd.Context(), r)
}

func importVerifying(cmd *cobra.Command, s *store.Handle, keys []jwks.PublicKey,
	exclude bool) (r *rotation.Ring, imported []string, err error) {
	for _, name := range policyFlagNames {
		if typed(cmd.Flags(), name) {
			return nil, nil, fmt.Errorf("--%s is for beginning a ring, and a public key does not begin one", name)
		}
	}
	var revoked []string
	r, err = s.Update(cmd.Context(), func(r *rotation.Ring) (next *rotation.Ring, err error) {
		next, imported, revoked, err = addVerifying(r, keys, exclude)
		return next, err
	})
	if err == nil && len(revoked) > 0 {
		warn(cmd, "not imported, since they were revoked or removed before, and never return: %s",
			strings.Join(revoked, ", "))
	}
	return r, imported, err
}

// addVerifying returns r with the keys that it lacks, the kids of those, and the kids
// of keys that were revoked or removed here. A single key like that is an error.
func addVerifying(r *rotation.Ring, keys []jwks.PublicKey, exclude bool) (
	next *rotation.Ring, imported, revoked []string, err error) {
	next = r
	for _, key := range keys {
		switch k := heldKey(r, key.KeyID()); {
		case k != nil && exclude && k.InKeySet():
			return r, nil, nil, fmt.Errorf("key %s is in the key set already, and a key cannot be excluded later", k.KeyID)
		case k != nil && len(keys) == 1 && !exclude && !k.InKeySet():
			return r, nil, nil, fmt.Errorf("key %s is in the ring already, but excluded from discovery, which cannot be changed",
				k.KeyID)
		case k != nil:
			continue
		case r.Knows(key.KeyID()) && len(keys) == 1:
			return r, nil, nil, fmt.Errorf("key %s was revoked or removed before, and never returns", key.KeyID())
		case r.Knows(key.KeyID()):
			revoked = append(revoked, key.KeyID())
			continue
		}
		if next, err = rotation.ImportVerifying(next, key, exclude, time.Now()); err != nil {
			return r, nil, nil, err
		}
		imported = append(imported, key.KeyID())
	}
	return next, imported, revoked, nil
}

// heldKey returns the key of r with this kid, or nil if it is missing or revoked.
func heldKey(r *rotation.Ring, kid string) *rotation.Key {
	i := slices.IndexFunc(r.Keys, func(k rotation.Key) bool { return k.KeyID == kid && k.Published() })
	if i < 0 {
		return nil
	}
	return &r.Keys[i]
}
