package hint_test

import (
	"errors"
	"fmt"
	"testing"

	"oidc-provider/internal/hint"
)

type own struct{}

func (own) Error() string { return "own" }
func (own) Hint() string  { return "of a foreign type" }

func TestText(t *testing.T) {
	flag := func(field string) string { return "--" + field }
	inner := hint.Errorf("set {etcd.caFile}", "dialing %s", "etcd")
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"no error", nil, ""},
		{"no hint", errors.New("broken"), "broken"},
		{"nil stays nil", hint.Wrap(nil, "never shown"), ""},
		{"a setting", inner, "dialing etcd (hint: set --etcd.caFile)"},
		{"below the surface", fmt.Errorf("reading: %w", inner), "reading: dialing etcd (hint: set --etcd.caFile)"},
		{"outermost first", hint.Wrap(inner, "try again"), "dialing etcd (hint: try again; set --etcd.caFile)"},
		{"joined", errors.Join(inner, own{}), "dialing etcd (hint: set --etcd.caFile)\nown (hint: of a foreign type)"},
		{"each once", fmt.Errorf("%w, twice: %w", inner, inner), "dialing etcd, twice: dialing etcd (hint: set --etcd.caFile)"},
		{"braces that name no setting", hint.Errorf(`write {"keys": []} or {}`, "no"), `no (hint: write {"keys": []} or {})`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := hint.Text(test.err, flag); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestWrapKeepsTheError(t *testing.T) {
	if err := fmt.Errorf("reading: %w", hint.Wrap(own{}, "x")); !errors.As(err, new(own)) {
		t.Error("the wrapped error is lost")
	}
}
