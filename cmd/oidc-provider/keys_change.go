package main

import (
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/clock"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/internal/witness"
	"oidc-provider/rotation"
)

// changeFlags are the flags of a command that changes a ring: which one, and what
// says that the clock of this machine is right.
type changeFlags struct {
	ringFlags
	trustClock bool
	witnesses  witness.Config
}

func (f *changeFlags) add(cmd *cobra.Command) {
	f.ringFlags.add(cmd)
	flags := cmd.Flags()
	addTrustClockFlag(flags, &f.trustClock)
	flags.StringSliceVar(&f.witnesses.URLs, "witness", nil,
		"`URL` of a key set on another machine, whose clock this one is compared with if NTP does not set it; may be given "+
			"several times; default the issuer's own if it is https; \"none\" asks no server")
	flags.StringVar(&f.witnesses.CAFile, "witness-ca-file", "", "PEM `FILE` with the CA of the witnesses; default the system's")
}

// open opens the store for a change, which the handle refuses while the clock is
// known to be wrong. The caller must close it.
func (f *changeFlags) open(cmd *cobra.Command) (*store.Handle, error) {
	s, err := f.ringFlags.open(cmd)
	if err != nil || f.trustClock {
		return s, err
	}
	asked := false
	return s.Guarded(func(r *rotation.Ring) error {
		if asked { // a conflict starts the change again
			return nil
		}
		asked = true
		return f.checkClock(cmd, r)
	}), nil
}

// applyChange changes the ring in a store. With dryRun it returns what the change would
// make of it, and writes nothing.
func applyChange(cmd *cobra.Command, s *store.Handle, dryRun bool,
	change func(*rotation.Ring) (*rotation.Ring, error)) (*rotation.Ring, error) {
	if !dryRun {
		return s.Update(cmd.Context(), change)
	}
	r, err := s.ReadTrusted(cmd.Context())
	if err != nil {
		return nil, err
	}
	return change(r)
}

// checkClock refuses a clock that is known to be wrong, and warns of one that
// nothing confirms, unless the ring was just written at about the same time.
func (f *changeFlags) checkClock(cmd *cobra.Command, r *rotation.Ring) error {
	confirmed, err := f.evidence(cmd, r, true)
	if err != nil {
		return err
	}
	if age := time.Since(r.Updated); !confirmed && age.Abs() > time.Duration(r.Policy.ClockSkew) {
		warn(cmd, "nothing confirms the clock of this machine: make sure that it is %s", time.Now().UTC().Format(time.RFC3339))
	}
	return nil
}

// evidence reports whether anything confirms the clock, and returns an error if it
// is known to be wrong. Witnesses are asked where the kernel says nothing. The
// issuer's own key set, which may come from this machine, counts if own is set.
func (f *changeFlags) evidence(cmd *cobra.Command, r *rotation.Ring, own bool) (confirmed bool, err error) {
	if clock.Synchronised() {
		return true, nil
	}
	witnesses, err := f.witnessConfig()
	if err != nil {
		return false, err
	}
	answers, err := witnesses.AskDated(cmd.Context(), r.Issuer, func(string, error) {})
	if err != nil {
		return false, err
	}
	e := clock.New()
	for _, a := range answers {
		e.Add(a.By, a.Date, own || witnesses.Named())
	}
	confirmed, wrong := e.Check(time.Now(), time.Duration(r.Policy.ClockSkew))
	if wrong != nil {
		return false, hint.Errorf("set the clock; {option.trustClock} changes the ring anyway",
			"the clock is wrong: %w; nothing was changed", wrong)
	}
	return confirmed, nil
}

// witnessConfig returns the witnesses of the flags, or else of the configuration file.
func (f *changeFlags) witnessConfig() (witness.Config, error) {
	if f.witnesses.Named() || f.file == "" {
		return f.witnesses, nil
	}
	managed, err := f.managed()
	if err != nil {
		return witness.Config{}, err
	}
	m := managed[0].Managed // the file has one, or --issuer names it
	return witness.Config{URLs: m.Witnesses, CAFile: m.WitnessCAFile}, nil
}
