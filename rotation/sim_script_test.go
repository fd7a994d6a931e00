package rotation_test

import (
	"errors"
	"testing"
	"time"

	"oidc-provider/internal/store/storetest"
	"oidc-provider/rotation"
)

// TestSimulationScripts is what TestSimulation has found, in the fewest steps:
// the rule that was wrong may have been one of the simulation.
func TestSimulationScripts(t *testing.T) {
	const day = 24 * time.Hour
	hurry := rotation.Policy{Schedule: "@every 1h", PublishAhead: rotation.Duration(2 * time.Hour)}
	for _, tt := range []struct {
		name   string
		p      rotation.Policy
		sealed bool
		script func(*world)
	}{
		{"a shorter publish-ahead, and caches filled before", rotation.Policy{Schedule: "@every 720h"}, false, func(w *world) {
			w.pass(3 * day)
			w.setPolicy(hurry, w.now)
			w.pass(3 * day)
			w.checkProgress(3 * day)
		}},
		{"a shorter publish-ahead that one replica has not heard of, and no next key", rotation.Policy{Schedule: "@every 30h"}, false, func(w *world) {
			w.setPolicy(hurry, w.now)
			w.replicas[2].link.SetCut(true)
			w.revoke(w.ring.Standby(w.now).KeyID, w.now)
			w.pass(3 * day)
			w.checkProgress(3 * day)
		}},
		{"an activation at the last moment, and a write that fails", rotation.Policy{Schedule: "@every 72h"}, false, func(w *world) {
			w.replicas[1].r, w.replicas[2].r = nil, nil
			w.store.FailSwap(storetest.FailAfter)
			w.pass(3 * day)
			w.checkProgress(3 * day)
		}},
		{"a clock set back after the plugin came back", rotation.Policy{}, true, func(w *world) {
			rep := w.replicas[0]
			rep.sealer.fail(errors.New("the plugin is away"))
			w.rotate(true, w.now)
			w.rotate(true, w.now) // to a key that it has not opened
			w.pass(day)
			rep.link.SetCut(true)
			rep.sealer.fail(nil)
			rep.healed = w.now
			w.now = w.now.Add(time.Hour)
			rep.offset = -w.skew / 2
			w.tick(rep)
			w.check()
		}},
		{"a forced rotation that lands late, and another write after it", rotation.Policy{}, false, func(w *world) {
			w.lateBy = time.Minute
			w.store.FailSwap(storetest.Late)
			w.rotate(true, w.now)
			w.lateBy = 0
			w.store.FailSwap(storetest.Late)
			w.setPolicy(hurry, w.now)
			w.pass(time.Hour)
		}},
		{"a copy that is named long before the activation", rotation.Policy{Schedule: "@every 72h"}, false, func(w *world) {
			w.pass(day)
			w.replicas[2].link.SetCut(true)
			w.addCopy("google", w.now)
			w.pass(3 * day)
			w.confirmCopy("google", w.now)
			w.pass(3 * day)
		}},
		{"a copy that is named just before the activation", rotation.Policy{Schedule: "@every 72h"}, false, func(w *world) {
			w.pass(3*day - time.Hour)
			w.replicas[2].link.SetCut(true)
			w.addCopy("google", w.now)
			w.pass(3 * day)
			w.confirmCopy("google", w.now)
			w.pass(3 * day)
		}},
		{"a copy that is named after a change of policy that one replica has not heard of", rotation.Policy{Schedule: "@every 72h"}, false, func(w *world) {
			w.pass(3*day - time.Hour)
			w.replicas[2].link.SetCut(true)
			w.setPolicy(rotation.Policy{Schedule: "@every 73h"}, w.now)
			w.addCopy("google", w.now)
			w.pass(3 * day)
		}},
		{"a copy that is removed and named again", rotation.Policy{Schedule: "@every 30h"}, false, func(w *world) {
			w.addCopy("google", w.now)
			w.confirmCopy("google", w.now)
			w.removeCopy("google", w.now)
			w.addCopy("google", w.now)
			w.pass(3 * day)
		}},
		{"a copy that loses the next key long before the activation", rotation.Policy{Schedule: "@every 72h"}, false, func(w *world) {
			w.addCopy("google", w.now)
			w.confirmCopy("google", w.now)
			w.pass(day)
			w.replicas[2].link.SetCut(true)
			w.lose("google", w.now)
			w.pass(3 * day)
			w.confirmCopy("google", w.now)
			w.pass(3 * day)
		}},
		{"a copy that loses the next key just before the activation", rotation.Policy{Schedule: "@every 72h"}, false, func(w *world) {
			w.addCopy("google", w.now)
			w.confirmCopy("google", w.now)
			w.pass(3*day - time.Hour)
			w.replicas[2].link.SetCut(true)
			w.lose("google", w.now)
			w.pass(3 * day)
			w.confirmCopy("google", w.now)
			w.pass(3 * day)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, kind := range storetest.Kinds {
				tt.script(newWorld(t, tt.p.WithDefaults(), kind, tt.sealed))
			}
		})
	}
}
