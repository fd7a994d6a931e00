package rotation

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/robfig/cron/v3"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// A Policy has the rules that a ring is planned under. It is part of the ring, so
// that every process that changes the ring keeps the promises of the servers. The
// zero value of each field means its default; [Policy.WithDefaults] sets them.
type Policy struct {
	// Schedule says when a new key becomes active, in cron form in UTC
	// ("0 3 1 * *", "@weekly") or as "@every 720h", which counts from the last
	// activation. Default "@every 720h".
	Schedule string `json:"schedule"`

	// Algorithm of new keys. A change takes effect two rotations later, since
	// the next key is published already. Default RS256, the only one that every
	// relying party accepts.
	Algorithm jose.SignatureAlgorithm `json:"algorithm"`

	// RSABits is the size of new RS256 keys. Default 2048.
	RSABits int `json:"rsaBits"`

	// PublishAhead is how long a key is in the key set before it signs. It must
	// exceed the longest time that a relying party caches the key set by
	// ClockSkew. It is also how long a replica may sign without having read the
	// ring. Default 24h: the longest known cache that does not fetch again when
	// it lacks a key keeps the key set for 12h.
	PublishAhead Duration `json:"publishAhead"`

	// MaxTokenLifetime limits the exp of every token when it is signed. Retired
	// keys stay published for that long. Default 24h, the longest that Google
	// Cloud accepts.
	MaxTokenLifetime Duration `json:"maxTokenLifetime"`

	// ClockSkew is the largest difference between two clocks that matter: those
	// of replicas, API servers and relying parties. Retired keys stay published
	// for that much longer. Default 10m.
	ClockSkew Duration `json:"clockSkew"`
}

// DefaultPolicy is the Policy that the zero value means.
var DefaultPolicy = Policy{
	Schedule:         "@every 720h",
	Algorithm:        jose.RS256,
	RSABits:          jwks.RSABits[0],
	PublishAhead:     Duration(24 * time.Hour),
	MaxTokenLifetime: Duration(24 * time.Hour),
	ClockSkew:        Duration(10 * time.Minute),
}

// WithDefaults returns p with its zero fields set from [DefaultPolicy].
func (p Policy) WithDefaults() Policy { return p.Or(DefaultPolicy) }

// Or returns p with its zero fields set from q.
func (p Policy) Or(q Policy) Policy {
	if p.Schedule == "" {
		p.Schedule = q.Schedule
	}
	if p.Algorithm == "" {
		p.Algorithm = q.Algorithm
	}
	if p.RSABits == 0 {
		p.RSABits = q.RSABits
	}
	if p.PublishAhead == 0 {
		p.PublishAhead = q.PublishAhead
	}
	if p.MaxTokenLifetime == 0 {
		p.MaxTokenLifetime = q.MaxTokenLifetime
	}
	if p.ClockSkew == 0 {
		p.ClockSkew = q.ClockSkew
	}
	return p
}

// maxDuration keeps sums of durations and times from overflowing.
const maxDuration = Duration(10 * 365 * 24 * time.Hour)

// Validate returns an error if p, with its defaults, cannot be used.
func (p Policy) Validate() error {
	p = p.WithDefaults()
	if err := jwks.CheckParameters(p.Algorithm, p.RSABits); err != nil {
		return err
	}
	for _, d := range []struct {
		name string
		d    Duration
	}{{"publish-ahead", p.PublishAhead}, {"longest token lifetime", p.MaxTokenLifetime}, {"clock skew", p.ClockSkew}} {
		if d.d < 0 || d.d > maxDuration {
			return fmt.Errorf("%s %v: want more than 0 and at most %v", d.name, d.d, maxDuration)
		}
	}
	_, err := parseSchedule(p.Schedule)
	return err
}

// keysInSteadyState returns how many keys are published at the same time in
// normal operation under p.
func (p Policy) keysInSteadyState() int {
	schedule, err := parseSchedule(p.Schedule)
	if err != nil {
		return 0
	}
	from := schedule.Next(time.Unix(0, 0).UTC())
	interval := max(schedule.Next(from).Sub(from), time.Duration(p.PublishAhead))
	retired := (p.retention() + Duration(interval) - 1) / Duration(interval)
	return 2 + int(retired)
}

// Numbers of published keys: relying parties fetch and search all of them.
const (
	// ManyKeys is more than a sensible policy needs.
	ManyKeys = 5
	// TooManyKeys is close to the point where relying parties fail: AWS fails
	// above 100, Entra ID reads the first 100, and some read at most 32 KiB.
	TooManyKeys = 50
)

// Warnings returns a sentence for everything in p that is allowed but likely to
// cause trouble.
func (p Policy) Warnings() []string {
	p = p.WithDefaults()
	var warnings []string
	if p.PublishAhead < Duration(time.Hour) {
		warnings = append(warnings, fmt.Sprintf("publish-ahead %v is below 1h: "+
			"relying parties that cache the key set longer (Envoy 10m, PyJWT 5m, keyfunc 1h, .NET and nginx 12h) "+
			"will reject tokens after every rotation", p.PublishAhead))
	}
	if p.PublishAhead <= p.ClockSkew {
		warnings = append(warnings, fmt.Sprintf("publish-ahead %v is not more than the clock skew, %v: a relying party whose "+
			"clock is behind may not have a key yet when it signs", p.PublishAhead, p.ClockSkew))
	}
	if p.MaxTokenLifetime > Duration(24*time.Hour) {
		warnings = append(warnings, fmt.Sprintf("the longest token lifetime, %v, is above 24h: Google Cloud refuses tokens "+
			"older than that, and retired keys stay published for that long", p.MaxTokenLifetime))
	}
	if p.Algorithm == jose.ES512 {
		warnings = append(warnings, "jsonwebtoken for Rust refuses a whole key set because of one key for ES512, "+
			"the tokens of other keys too: ES256 and RS256 do not have that problem")
	}
	if n := p.keysInSteadyState(); n > ManyKeys {
		warnings = append(warnings, fmt.Sprintf("with the schedule %q and a token lifetime of %v "+
			"about %d keys are published: AWS STS fails above 100, and many relying parties read at most 32 KiB",
			p.Schedule, p.MaxTokenLifetime, n))
	}
	return warnings
}

// retention returns how long a key must stay published after it has signed.
func (p Policy) retention() Duration { return p.MaxTokenLifetime + p.ClockSkew }

// Freshness returns how long ago a replica may have read the ring for its
// documents to be valid: half of PublishAhead. The other half is for caches.
func (p Policy) Freshness() time.Duration { return time.Duration(p.PublishAhead) / 2 }

// MaxAgeLimit returns the longest max-age that is safe: a cache that follows it
// expires before a key that it lacks becomes active, on any replica (see
// [Policy.Freshness]) and any clock. If the clock skew would leave less than a
// quarter of PublishAhead, it is that quarter.
func (p Policy) MaxAgeLimit() time.Duration {
	ahead := time.Duration(p.PublishAhead)
	return max(ahead/2-time.Duration(p.ClockSkew), ahead/4)
}

// activation returns the time at which the next key becomes active: the first
// of the schedule after activeSince, but not before earliest.
func (p Policy) activation(activeSince, earliest time.Time) (time.Time, error) {
	schedule, err := parseSchedule(p.Schedule)
	if err != nil {
		return time.Time{}, err
	}
	at := schedule.Next(activeSince.UTC())
	if !at.Before(earliest) {
		return at, nil
	}
	if _, interval := schedule.(cron.ConstantDelaySchedule); interval {
		return earliest, nil
	}
	return schedule.Next(earliest.UTC().Add(-1)), nil
}

func parseSchedule(spec string) (cron.Schedule, error) {
	if strings.Contains(spec, "=") {
		return nil, hint.Errorf("write the schedule in UTC",
			"schedule %q: time zones are not accepted, since not every machine knows them", spec)
	}
	if interval, ok := strings.CutPrefix(spec, "@every "); ok {
		if d, err := time.ParseDuration(interval); err == nil && (d < time.Second || Duration(d) > maxDuration) {
			return nil, fmt.Errorf("schedule %q: want an interval of 1s to %v", spec, maxDuration)
		}
	}
	schedule, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, hint.Errorf("write \"@every 720h\", \"@weekly\" or \"0 3 1 * *\": minute hour day month weekday, in UTC",
			"schedule %q: %w", spec, err)
	}
	if first := schedule.Next(time.Unix(0, 0).UTC()); first.IsZero() || schedule.Next(first).IsZero() {
		return nil, fmt.Errorf("schedule %q: no time matches it", spec)
	}
	return schedule, nil
}

// A Duration is a [time.Duration] that JSON contains as text like "24h0m0s".
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New("not a duration like 24h or 90s")
	}
	*d = Duration(parsed)
	return nil
}
