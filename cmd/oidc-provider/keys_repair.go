package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

func newKeysRepairCommand() *cobra.Command {
	var ring changeFlags
	var clock, dryRun bool
	cmd := &cobra.Command{
		Use:   "repair --clock",
		Short: "Put right a ring that was written by a machine whose clock was ahead",
		Long: `Put right a ring that was written by a machine whose clock was ahead. Servers whose
clock is right keep signing with such a ring, but change nothing until the time at
which it says it was written.

What the ring says has happened later than now becomes now, as a revocation, or has
not happened: the key that is active now keeps signing, and the next rotation is
planned again. Running servers accept the repaired ring. Programs of earlier
versions do not read it.

This needs a clock that NTP or a --witness confirms, or --trust-clock: with a clock
that is behind, every ring seems to be from the future.`,
		Example: `  oidc-provider keys repair --clock --dry-run --store /var/lib/oidc-provider
  oidc-provider keys repair --clock --store /var/lib/oidc-provider`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !clock {
				return errors.New("--clock is required: it is what can be repaired")
			}
			return repairClock(cmd, &ring, dryRun)
		},
	}
	ring.add(cmd)
	cmd.Flags().BoolVar(&clock, "clock", false, "repair the time at which the ring was written")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would change, and change nothing")
	return cmd
}

func repairClock(cmd *cobra.Command, ring *changeFlags, dryRun bool) error {
	s, err := ring.open(cmd)
	if err != nil {
		return err
	}
	defer s.Close()
	var before *rotation.Ring
	change := func(r *rotation.Ring) (*rotation.Ring, error) {
		before = r
		next, err := rotation.RepairClock(r, time.Now())
		if err != nil {
			return r, err
		}
		return next, ring.mustConfirmClock(cmd, r)
	}
	r, err := applyChange(cmd, s, dryRun, change)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "The ring said that it was written at %s. It is from now:\n", describe.Time(before.Updated))
	describe.Keys(out, r, time.Now())
	if dryRun {
		fmt.Fprintln(out, "Nothing was changed (dry run).")
	}
	return nil
}

// mustConfirmClock returns an error unless something confirms the clock.
func (f *changeFlags) mustConfirmClock(cmd *cobra.Command, r *rotation.Ring) error {
	if f.trustClock {
		return nil
	}
	confirmed, err := f.evidence(cmd, r, false)
	if err != nil || confirmed {
		return err
	}
	return hint.Errorf("let NTP set the clock, name a {option.witness} on another machine, or add {option.trustClock}",
		"nothing confirms that the clock is right, and that it is %s; nothing was changed",
		time.Now().UTC().Format(time.RFC3339))
}
