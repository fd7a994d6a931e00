package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

// newLogger returns a logger that writes durations in one form, like 24h or 1m30s,
// and adds the hint of an error as an attribute. settingName returns what the
// operator calls a setting.
func newLogger(w io.Writer, format, level string, settingName func(string) string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil || strings.ContainsAny(level, "+-") {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l, ReplaceAttr: formatDuration}
	var h slog.Handler
	switch format {
	case "text":
		h = slog.NewTextHandler(w, opts)
	case "json":
		h = slog.NewJSONHandler(w, opts)
	default:
		return nil, fmt.Errorf("--log-format %q: want text or json", format)
	}
	return slog.New(hintHandler{h, settingName}), nil
}

func formatDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(rotation.Duration(a.Value.Duration()).String())
	}
	return a
}

// A hintHandler adds the hints of the errors in a record to it.
type hintHandler struct {
	slog.Handler
	settingName func(string) string
}

// Handle implements [slog.Handler].
func (h hintHandler) Handle(ctx context.Context, r slog.Record) error {
	var hints []string
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && hint.Of(err) != "" {
			hints = append(hints, hint.Name(hint.Of(err), h.settingName))
		}
		return true
	})
	if hints != nil {
		r = r.Clone()
		r.AddAttrs(slog.String("hint", strings.Join(hints, "; ")))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h hintHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return hintHandler{h.Handler.WithAttrs(attrs), h.settingName}
}

// WithGroup implements [slog.Handler].
func (h hintHandler) WithGroup(name string) slog.Handler {
	return hintHandler{h.Handler.WithGroup(name), h.settingName}
}
