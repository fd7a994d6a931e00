package e2e

import (
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"
)

// A fault strikes one replica, one member of the ring's etcd, or both, for a
// time between least and most.
type fault struct {
	name        string
	least, most time.Duration
	replica     bool // one comes back from it, and must agree with the others
	member      bool
	// rotation makes it begin just before a hand-over. It lasts until after
	// the next: the key of that, whoever it strikes has never heard of.
	rotation bool
	// strike begins the fault at replica r and member m. heal ends it for the
	// replica, or for the member if none is struck, and late what is left.
	strike func(r, m int) (heal, late func())
}

// faults are what happens to replicas and members.
func (p *controlPlane) faults() []fault {
	nothing := func() {}
	onReplica := func(strike, heal func(*replica)) func(r, m int) (func(), func()) {
		return func(r, _ int) (func(), func()) {
			strike(p.replicas[r])
			return func() { heal(p.replicas[r]) }, nothing
		}
	}
	onMember := func(strike, heal func(m int)) func(r, m int) (func(), func()) {
		return func(_, m int) (func(), func()) {
			strike(m)
			return func() { heal(m) }, nothing
		}
	}
	killMember := func(m int) { p.members[m].process.kill() }
	launchMember := func(m int) { p.members[m].launch() }
	pauseMember := func(m int) { p.members[m].process.signal(syscall.SIGSTOP) }
	resumeMember := func(m int) { p.members[m].process.signal(syscall.SIGCONT) }
	const s = time.Second
	// Longer than a rotation, and than anybody may sign without reading.
	const long = 11*s + 500*time.Millisecond
	split := func(r, m int) (func(), func()) {
		p.split(r, m)
		return func() { p.join(r, m) }, nothing
	}
	return []fault{
		{"replica killed, and restarted at once", 0, 0, true, false, false, onReplica((*replica).kill, (*replica).launch)},
		{"replica killed", s, 4 * s, true, false, false, onReplica((*replica).kill, (*replica).launch)},
		{"replica paused", s, 4 * s, true, false, false, onReplica((*replica).pause, (*replica).resume)},
		{"replica paused for a rotation", long, 13 * s, true, false, true, onReplica((*replica).pause, (*replica).resume)},
		{"replica cut off in silence", s, 4 * s, true, false, false, onReplica((*replica).silence, (*replica).reconnect)},
		{"replica cut off in silence for a rotation", long, 13 * s, true, false, true, onReplica((*replica).silence, (*replica).reconnect)},
		{"replica's bytes kept back", s, 4 * s, true, false, false, onReplica((*replica).keepBack, (*replica).reconnect)},
		{"replica refused", s, 4 * s, true, false, false, onReplica((*replica).refuse, (*replica).reconnect)},
		{"member killed", s, 4 * s, false, true, false, onMember(killMember, launchMember)},
		{"member paused", s, 4 * s, false, true, false, onMember(pauseMember, resumeMember)},
		{"member cut off from the replicas in silence", s, 4 * s, false, true, false, onMember(
			func(m int) { p.eachLine(m, (*proxy).silence) }, func(m int) { p.eachLine(m, (*proxy).accept) })},
		{"member cut off from the other members", s, 4 * s, false, true, false, onMember(
			func(m int) { isolate(p.members, m, true) }, func(m int) { isolate(p.members, m, false) })},
		{"replica and member cut off together", s, 8 * s, true, true, false, split},
		{"replica and member cut off together for a rotation", long, 13 * s, true, true, true, split},
		{"replica paused while a member is down", 4 * s, 6 * s, true, true, false, func(r, m int) (func(), func()) {
			killMember(m)
			p.replicas[r].pause()
			return p.replicas[r].resume, func() { launchMember(m) }
		}},
	}
}

func (r *replica) kill()   { r.process.kill() }
func (r *replica) pause()  { r.process.signal(syscall.SIGSTOP) }
func (r *replica) resume() { r.process.signal(syscall.SIGCONT) }

func (r *replica) eachLine(do func(*proxy)) {
	for _, line := range r.lines {
		do(line)
	}
}

func (r *replica) silence()   { r.eachLine((*proxy).silence) }
func (r *replica) keepBack()  { r.eachLine((*proxy).pause) }
func (r *replica) refuse()    { r.eachLine((*proxy).refuse) }
func (r *replica) reconnect() { r.eachLine((*proxy).accept) }

// eachLine is about the lines from all replicas to one member.
func (p *controlPlane) eachLine(member int, do func(*proxy)) {
	for _, r := range p.replicas {
		do(r.lines[member])
	}
}

// split leaves replica r with member m alone, which has no quorum, and the
// others with each other: they share a machine or a rack, and its network fails.
func (p *controlPlane) split(r, m int) {
	isolate(p.members, m, true)
	p.eachLine(m, (*proxy).silence)
	p.replicas[r].silence()
	p.replicas[r].lines[m].accept()
}

func (p *controlPlane) join(r, m int) {
	isolate(p.members, m, false)
	p.eachLine(m, (*proxy).accept)
	p.replicas[r].reconnect()
}

func (c *child) signal(signal syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(signal); err != nil {
		c.t.Errorf("%s to %s: %v", signal, c.name, err)
	}
}

// A struckFault is one that has happened.
type struckFault struct {
	fault
	span
	victim int // a replica, -1 if none
}

// strikeOnce lets one fault happen, and waits until all are well again. It
// returns how long the replica took to agree with the others after it was back.
func (p *controlPlane) strikeOnce(f fault, rng *rand.Rand) (struck struckFault, agreed time.Duration) {
	t := p.lab.t
	t.Helper()
	r, m := rng.IntN(len(p.replicas)), rng.IntN(len(p.members))
	lasts := f.least
	if f.most > f.least {
		lasts += time.Duration(rng.Int64N(int64(f.most - f.least)))
	}
	if f.rotation {
		before := 200*time.Millisecond + time.Duration(rng.Int64N(int64(time.Second)))
		time.Sleep(time.Until(p.replicas[r].nextHandOver().Add(-before)))
	}
	struck = struckFault{f, span{from: time.Now()}, -1}
	heal, late := f.strike(r, m)
	time.Sleep(lasts)
	heal()
	struck.to = time.Now()
	if f.replica {
		struck.victim = r
		agreed = p.awaitAgreement(f.name, p.replicas[r])
	}
	late()
	if f.member {
		p.members[m].process.awaitReady(20*time.Second, p.members[m].ready)
	}
	t.Logf("%s %-50s replica %d member %d, for %s; agreed after %s", clock(struck.from), f.name, r, m,
		struck.to.Sub(struck.from).Round(time.Millisecond), agreed.Round(time.Millisecond))
	return struck, agreed
}

// awaitAgreement counts from when r is back: there is a process that answers.
func (p *controlPlane) awaitAgreement(fault string, r *replica) time.Duration {
	t := p.lab.t
	t.Helper()
	client := &http.Client{Timeout: time.Second}
	back := time.Now()
	r.process.awaitReady(recovery, func() error { return expectOK(client, "http://"+r.admin+"/livez") })
	began := time.Now()
	err := p.agree(r, back, recovery)
	agreed := time.Since(began)
	if err != nil || agreed > agreement {
		t.Errorf("%s at %s, %s: it took %s to agree with the others, want at most %s: %v",
			r.name, clock(began), fault, agreed.Round(time.Millisecond), agreement, err)
	}
	return agreed
}
