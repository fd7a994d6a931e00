package clock

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/httpclient"
)

func TestCheck(t *testing.T) {
	const skew = 10 * time.Minute
	now := time.Now()
	// answer is that of a machine from whose point of view this clock is ahead.
	answer := func(ahead time.Duration) httpclient.Date {
		return httpclient.Date{Shown: now.Add(-ahead).Truncate(time.Second), Sent: now.Add(-200 * time.Millisecond), Received: now}
	}
	old := answer(40 * 24 * time.Hour)
	old.Sent, old.Received, old.Shown = old.Sent.Add(-time.Hour), old.Received.Add(-time.Hour), old.Shown.Add(-time.Hour)
	slow := answer(0)
	slow.Sent = slow.Sent.Add(-time.Hour)
	type machine struct {
		httpclient.Date
		corroborates bool
	}
	for _, tt := range []struct {
		name      string
		kernel    bool
		machines  []machine
		confirmed bool
		wrong     string
	}{
		{"nothing", false, nil, false, ""},
		{"the kernel", true, nil, true, ""},
		{"a machine", false, []machine{{answer(0), true}}, true, ""},
		{"a machine within the skew", false, []machine{{answer(skew - time.Second), true}}, true, ""},
		{"it may be this one", false, []machine{{answer(0), false}}, false, ""},
		{"ahead", false, []machine{{answer(40 * 24 * time.Hour), true}}, false, "960h0m0s ahead of that of 0"},
		{"behind", false, []machine{{answer(-time.Hour), false}}, false, "1h0m0s behind that of 0"},
		{"the kernel against one", true, []machine{{answer(time.Hour), true}}, true, ""},
		{"the kernel against two", true, []machine{{answer(time.Hour), true}, {answer(time.Hour), false}}, false, "ahead"},
		{"one against one", false, []machine{{answer(time.Hour), true}, {answer(0), true}}, true, ""},
		{"long ago", false, []machine{{old, true}}, false, ""},
		{"after an hour", false, []machine{{slow, true}}, false, ""},
		{"no date", false, []machine{{httpclient.Date{}, true}}, false, ""},
	} {
		e := New()
		e.kernel = func() bool { return tt.kernel }
		for i, m := range tt.machines {
			e.Add(string(rune('0'+i)), m.Date, m.corroborates)
		}
		confirmed, wrong := e.Check(now, skew)
		if confirmed != tt.confirmed || (wrong != nil) != (tt.wrong != "") || wrong != nil && !strings.Contains(wrong.Error(), tt.wrong) {
			t.Errorf("%s: %v, %v", tt.name, confirmed, wrong)
		}
	}
}

func TestDateOf(t *testing.T) {
	now := time.Now()
	shown := now.UTC().Truncate(time.Second)
	header := http.Header{"Date": {shown.Format(http.TimeFormat)}}
	if d := httpclient.DateOf(header, now, now); !d.Shown.Equal(shown) {
		t.Errorf("got %v", d)
	}
	header.Set("Age", "7") // from a cache
	if d := httpclient.DateOf(header, now, now); !d.Shown.IsZero() {
		t.Errorf("of a cache: %v", d)
	}
	if d := httpclient.DateOf(http.Header{"Date": {"yesterday"}}, now, now); !d.Shown.IsZero() {
		t.Errorf("of nonsense: %v", d)
	}
}

// BenchmarkCheck is what every tick pays.
func BenchmarkCheck(b *testing.B) {
	e := New()
	now := time.Now()
	for _, by := range []string{"a", "b", "c"} {
		e.Add(by, httpclient.Date{Shown: now, Sent: now, Received: now}, true)
	}
	for b.Loop() {
		e.Check(time.Now(), 10*time.Minute)
	}
}
