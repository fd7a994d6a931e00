package store_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"oidc-provider/internal/store"
)

// A read that is left behind writes nothing that its caller returns. The race detector
// sees it otherwise.
func TestReadsThatAreLeftBehind(t *testing.T) {
	f := store.NewFile(filepath.Join(t.TempDir(), "none"))
	for i := range 500 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Microsecond/5)
		f.Load(ctx)
		cancel()
	}
	if data, v, err := f.Load(t.Context()); data != nil || v != "" || err != nil {
		t.Errorf("the empty store: %q, %q, %v", data, v, err)
	}
}
