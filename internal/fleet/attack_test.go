package fleet_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"oidc-provider/rotation"
)

// TestAttacks puts each forged document into the store of a server of each kind. A
// server that runs does not change what its clients see, and rings the alarm until the
// good ring is back. One that is started then publishes and signs nothing.
func TestAttacks(t *testing.T) {
	rows := attacks()
	found := make([][]error, len(attackedKinds)*len(rows)) // by kind and row
	var wg sync.WaitGroup
	for k, kind := range attackedKinds {
		w := newWorld(t, kind)
		work := make(chan int)
		for range lanes {
			wg.Go(func() { attackAll(t, w, rows, work, found[k*len(rows):]) })
		}
		wg.Go(func() {
			for i := range rows {
				if kind != "first use" || !rows[i].brief {
					work <- i
				}
			}
			close(work)
		})
	}
	wg.Wait()
	for k, kind := range attackedKinds {
		t.Run(strings.ReplaceAll(kind, " ", "-"), func(t *testing.T) {
			for i, row := range rows {
				if kind == "first use" && row.brief {
					continue
				}
				t.Run(row.name, func(t *testing.T) {
					for _, err := range found[k*len(rows)+i] {
						t.Error(err)
					}
				})
			}
		})
	}
}

// lanes is how many servers of a kind are attacked at the same time: each takes up to
// two polls of the store for an attack.
const lanes = 10

// attackAll attacks a server with the rows that it receives.
func attackAll(t *testing.T, w *world, rows []attack, work <-chan int, found [][]error) {
	s, err := startServer(t, w, w.good, "")
	if err == nil {
		defer s.stop()
		err = s.settled(w.good, time.Now())
	}
	for i := range work {
		if found[i] = []error{err}; err == nil {
			found[i] = attackOnce(t, s, rows[i])
		}
	}
}

// attackOnce returns what the attack has achieved.
func attackOnce(t *testing.T, s *server, row attack) (found []error) {
	fail := func(format string, args ...any) { found = append(found, fmt.Errorf(format, args...)) }
	doc := row.doc(s.world)
	if _, err := rotation.Decode(doc); row.wellFormed && err != nil {
		fail("the document is not well-formed: %w", err)
	}
	before, put := s.see(answers), time.Now()
	if err := s.put(doc); err != nil {
		return append(found, err)
	}
	if row.harmless {
		if err := s.settled(doc, put); err != nil {
			fail("while it runs: %w", err)
		}
	} else if err := s.refused(row.reason); err != nil {
		fail("while it runs: %w", err)
	}
	if after := s.see(answers); after != before || before.keySet == "" || s.signs && before.signer == "" {
		fail("while it runs: clients saw\n%+v\nand now see\n%+v", before, after)
	}
	if !bytes.Equal(s.ring(), doc) {
		fail("while it runs: the server has written over the document")
	}
	for _, from := range []string{s.state, "none"} {
		needed := row.stateOnly || s.world.kind == "first use"
		if from == "none" && needed || from != "none" && row.brief && !needed {
			continue
		}
		if err := restarted(t, s, row, doc, from, before); err != nil {
			fail("when it is started, with the rollback state in %s: %w", from, err)
		}
	}
	put = time.Now()
	if err := errors.Join(s.put(s.world.good), s.settled(s.world.good, put)); err != nil {
		fail("with the good ring again: %w", err)
	}
	if after := s.see(answers); after != before {
		fail("with the good ring again: clients saw\n%+v\nand now see\n%+v", before, after)
	}
	return found
}

// restarted starts another server like s on the document.
func restarted(t *testing.T, s *server, row attack, doc []byte, from string, good clientsView) error {
	if doc == nil {
		return nil // a store that is empty at the start is another error
	}
	next, err := startServer(t, s.world, doc, from)
	if err != nil {
		return err
	}
	defer next.stop()
	if row.harmless {
		if err := next.await("it serves", func() bool { return next.see(answers) == good }); err != nil {
			return err
		}
		return nil
	}
	if err := next.refused(cmp.Or(row.atStart, row.reason)); err != nil {
		return err
	}
	if v := next.see(100 * time.Millisecond); v.keySet != "" || v.signer != "" || v.keys != "" {
		return fmt.Errorf("clients see %+v", v)
	}
	if !bytes.Equal(next.ring(), doc) {
		return errors.New("the server has written over the document")
	}
	return nil
}
