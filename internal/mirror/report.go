package mirror

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"oidc-provider/internal/hint"
)

// Status.Skipped has at most maxReasons entries and a number of others. Each of
// them, and the text and the hint of Status.Failure, have at most maxText bytes:
// they may quote the source.
const (
	maxReasons = 20
	maxText    = 2048
)

// report puts err into v, and logs it when it begins, changes or ends.
func (m *Mirror) report(v *view, err error) {
	if err != nil {
		err = bounded(err)
		v.Failures++
	}
	before := v.Failure
	if hint.Text(err, hint.Field) == hint.Text(before, hint.Field) {
		return
	}
	v.Failure = err
	if err == nil {
		v.FailingSince = time.Time{}
		m.cfg.Log.Info("mirroring works again", m.attrs()...)
		return
	}
	if before == nil {
		v.FailingSince = time.Now()
	}
	m.cfg.Log.Error("mirroring fails; the known keys stay published", m.attrs("err", err)...)
}

// bounded returns the text and the hints of err, and nothing else of it.
func bounded(err error) error {
	return hint.Wrap(errors.New(shorten(err.Error())), shorten(hint.Of(err)))
}

// reportSkipped puts the reasons into v, and logs them if they are new.
func (m *Mirror) reportSkipped(v *view, skipped []error) {
	var reasons []string
	for i, err := range skipped {
		if i == maxReasons {
			reasons = append(reasons, fmt.Sprintf("and %d more", len(skipped)-i))
			break
		}
		reasons = append(reasons, shorten(hint.Text(err, hint.Field)))
	}
	if slices.Equal(reasons, v.Skipped) {
		return
	}
	v.Skipped = reasons
	if len(reasons) > 0 {
		m.cfg.Log.Warn("the source has keys that are not published", m.attrs("reasons", reasons)...)
	} else {
		m.cfg.Log.Info("all keys of the source are published", m.attrs()...)
	}
}

func shorten(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func (m *Mirror) attrs(more ...any) []any {
	return append([]any{"issuer", m.cfg.Issuer, "source", m.cfg.Source.String()}, more...)
}
