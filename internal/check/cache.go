package check

import (
	"fmt"
	"net/http"
	"time"

	"github.com/pquerna/cachecontrol/cacheobject"
)

// cache holds the headers against the time for which a key is published before
// it signs: whoever keeps the document for longer meets tokens of a key that
// he does not know (RFC 9111, section 4.2).
func cache(o *Observation, a *Answer) Result {
	raw := a.header("Cache-Control")
	control, err := cacheobject.ParseResponseCacheControl(raw)
	if err != nil {
		return fail(fmt.Sprintf("Cache-Control %.100q: %.100s", raw, err), "caches guess what it means", "send `public, max-age=300`")
	}
	seen := fmt.Sprintf("Cache-Control %.100q", raw)
	ahead := o.Options.PublishAhead
	seconds := func(n cacheobject.DeltaSeconds) time.Duration { return time.Duration(max(n, 0)) * time.Second }
	fresh := seconds(control.MaxAge)
	expires := a.header("Expires")
	switch {
	case control.NoStore || control.NoCachePresent || control.MaxAge == 0:
		return warn(seen, "every verification asks the server: it must bear that, and be up", "send `public, max-age=300`")
	case control.MaxAge < 0 && expires == "" && a.header("Last-Modified") != "":
		return fail("Last-Modified without max-age", "caches keep it for a tenth of its age, which may be weeks (RFC 9111, section 4.2.2)", "send `public, max-age=300`")
	case control.MaxAge < 0 && expires == "":
		return warn("no max-age", "every relying party and every cache on the way keeps it for as long as it likes", "send `public, max-age=300`")
	case control.MaxAge < 0:
		at, err := http.ParseTime(expires)
		if err != nil {
			at = o.Time // what is no date is past (RFC 9111, section 5.3)
		}
		fresh, seen = at.Sub(o.Time), fmt.Sprintf("Expires %.60q", expires)
	}
	shared := fresh
	if control.SMaxAge >= 0 && control.SMaxAge != control.MaxAge {
		shared += seconds(control.SMaxAge)
	}
	longest := shared + seconds(control.StaleWhileRevalidate)
	switch {
	case shared > ahead && shared > fresh:
		return fail(seen, "a shared cache keeps it for s-maxage, and relying parties for max-age from then on", "leave s-maxage out")
	case longest > ahead:
		return fail(seen, fmt.Sprintf("that is longer than keys are published before they sign (%v): who caches it refuses new tokens", ahead), "make it shorter, or say with --publish-ahead that you publish earlier")
	case longest > ahead/2:
		return warn(seen, fmt.Sprintf("that is more than half of the time that keys are published before they sign (%v), and caches add up", ahead), "make it shorter")
	case fresh < 10*time.Second:
		return warn(seen, "nearly every verification asks the server", "send `public, max-age=300`")
	case shared > fresh:
		return warn(seen, "a shared cache keeps it for s-maxage, and relying parties for max-age from then on", "leave s-maxage out")
	}
	return pass("%s", seen)
}
