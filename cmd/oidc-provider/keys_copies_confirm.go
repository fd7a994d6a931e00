package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/publish"
	"oidc-provider/rotation"
)

func newKeysCopiesConfirmCommand() *cobra.Command {
	var ring changeFlags
	var from string
	cmd := &cobra.Command{
		Use:   "confirm COPY {KID | --from FILE}",
		Short: "Confirm that a copy of the key set has a key",
		Long: `Confirm that a copy of the key set has the key KID. If KID is the next key, the
copy has the key set in which that key was new: the keys that were published before
it are confirmed as well. Any other key is confirmed alone. The rotation to the next
key is planned when every copy has it, and happens publish-ahead later at the
earliest.

With --from, the command looks itself: FILE, or - for standard input, is what the
copy contains. Every key of the key set in it is confirmed if the next key (or KID)
is there. The confirmation of a key that the copy has lost is withdrawn; a rotation
to it that is planned waits again, and the command fails, as it does without the
next key. FILE may be a key set (JWKS), public keys in PEM, or the output of:

  gcloud iam workload-identity-pools providers describe … --format json
  vault read -format json auth/jwt/config

If the ring is signed, it takes the identity of a writer.`,
		Example: `  # The key set was uploaded, with this as the next key
  oidc-provider keys copies confirm google-prod JvL9VBeh-uFhN5rvHhxuhbREw1XFUw2IhH26RaIQqjE

  # Look at what the copy contains
  gcloud iam workload-identity-pools providers describe cluster-a --workload-identity-pool pool --location global --format json |
    oidc-provider keys copies confirm google-prod --from -

  # Files in a bucket, from a job that runs every hour
  oidc-provider export --out public && aws s3 sync public/oidc.example.com s3://oidc-example-com &&
    curl --fail https://oidc.example.com/openid/v1/jwks | oidc-provider keys copies confirm bucket --from -`,
		Args: minimumArgs(1, "COPY", "KID"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return completeCopies(&ring.ringFlags, 0)(cmd, args, word)
			}
			return completeKeys(&ring.ringFlags, 1)(cmd, args, word)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a := confirmation{name: args[0], kids: args[1:]}
			if cmd.Flags().Changed("from") {
				var err error
				if a.content, err = readContent(cmd, from); err != nil {
					return err
				}
			}
			a.command = fmt.Sprintf("%s keys copies confirm%s %s", program(), storeArguments(cmd.Flags()), a.name)
			r, _, err := changeCopies(cmd, &ring, a.change)
			for _, w := range a.compared.Warnings(a.name) { // also when it failed
				warnError(cmd, w)
			}
			if err != nil {
				return err
			}
			return a.report(cmd, r)
		},
	}
	ring.add(cmd)
	cmd.Flags().StringVar(&from, "from", "",
		"`FILE` with what the copy holds, or - for standard input: a key set, PEM, or JSON of gcloud or vault")
	return cmd
}

// A confirmation is what a copy is said to have, or what is there.
type confirmation struct {
	name    string
	kids    []string         // that are asked for, none or one
	content *publish.Content // of the copy; nil: the operator vouches for it
	command string           // to which a kid is to be added

	compared publish.Comparison // with the last ring
	news     []string           // kids that were confirmed now
	refused  error              // why nothing was
}

func (a *confirmation) change(r *rotation.Ring) (next *rotation.Ring, err error) {
	if err := r.CheckCopy(a.name); err != nil {
		return r, err
	}
	without, now := r, time.Now()
	var kids []string
	if a.content != nil {
		a.compared = a.content.Compare(r, r.At(now))
		if without, err = a.compared.Withdraw(r, a.name, now); err != nil {
			return r, err
		}
		if kids, a.refused = a.compared.Confirmable(a.name, a.kids); a.refused != nil {
			return without, nil // what the copy has lost is written anyway
		}
	} else if kids, err = a.vouched(r, r.At(now)); err != nil {
		return r, err
	}
	next, a.refused = rotation.ConfirmCopy(without, a.name, now, kids...)
	a.news = confirmed(next, r, a.name)
	return next, nil
}

// vouched returns the kids that the operator vouches for.
func (a *confirmation) vouched(r *rotation.Ring, at time.Time) (kids []string, err error) {
	if len(a.kids) > 0 {
		return publish.KeysUpTo(r, a.kids[0], at), nil
	}
	next := r.Standby(at)
	if next == nil {
		return nil, publish.ErrNoNextKey
	}
	return nil, hint.Errorf(fmt.Sprintf("run `%s %s` if copy %s has the key that is next now; or let --from look",
		a.command, next.KeyID, a.name),
		"missing argument KID, or --from FILE: another key may be next now")
}

// report prints what r has become. It returns an error if a key is missing.
func (a *confirmation) report(cmd *cobra.Command, r *rotation.Ring) error {
	a.warnOfPlan(cmd, r)
	if a.refused != nil {
		return a.refused
	}
	out := cmd.OutOrStdout()
	if len(a.news) > 0 {
		fmt.Fprintf(out, "Copy %s has %s. The keys are\n", a.name, strings.Join(a.news, ", "))
	} else {
		fmt.Fprintf(out, "Copy %s has already confirmed that. The keys are\n", a.name)
	}
	describe.Keys(out, r, time.Now())
	if a.compared.LostNextKey() {
		return a.compared.MissingNextKey(a.name)
	}
	return nil
}

// warnOfPlan prints what became of the next rotation if the copy has lost the key,
// in the ring as it was written.
func (a *confirmation) warnOfPlan(cmd *cobra.Command, r *rotation.Ring) {
	switch c := &a.compared; {
	case !c.LostNextKey():
	case c.Planned.IsZero() || !c.ActiveFrom.IsZero():
		warn(cmd, "copy %s has lost key %s, which is next", a.name, c.NextKey)
		warnOfPlan(cmd, r, a.name, c.ActiveFrom)
	default:
		warn(cmd, "copy %s has lost key %s: the rotation at %s is withdrawn", a.name, c.NextKey, describe.Time(c.Planned))
	}
}

// readContent reads what a copy contains from a file, or standard input for -.
func readContent(cmd *cobra.Command, name string) (*publish.Content, error) {
	data, err := readInput(cmd, name, publish.MaxContent)
	if err != nil {
		return nil, err
	}
	content, err := publish.ParseContent(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return content, nil
}

// confirmed returns the kids that copy name has confirmed in r and not before.
func confirmed(r, before *rotation.Ring, name string) (kids []string) {
	for i := range r.Keys {
		if !r.Keys[i].CopyConfirmedAt[name].IsZero() && before.Keys[i].CopyConfirmedAt[name].IsZero() {
			kids = append(kids, r.Keys[i].KeyID)
		}
	}
	return kids
}
