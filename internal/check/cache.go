package check

import (
	"fmt"
	"net/http"
	"time"

	"github.com/pquerna/cachecontrol/cacheobject"
)

const goodCaching = "send `public, max-age=300`"

// cache compares the headers with the time for which a key is published before
// it signs. A relying party that keeps the document for longer receives tokens
// of a key that it does not have (RFC 9111, section 4.2).
func cache(o *Observation, a *Answer) Result {
	raw := a.header("Cache-Control")
	control, err := cacheobject.ParseResponseCacheControl(raw)
	if err != nil {
		return fail(fmt.Sprintf("Cache-Control %.100q: %.100s", raw, err), "caches guess what it means", goodCaching)
	}
	seen := fmt.Sprintf("Cache-Control %.100q", raw)
	expires := a.header("Expires")
	fresh := seconds(control.MaxAge)
	switch {
	case control.NoStore || control.NoCachePresent || control.MaxAge == 0:
		return warn(seen, "every verification asks the server, which must bear the load and always be available", goodCaching)
	case control.MaxAge < 0 && expires == "" && a.header("Last-Modified") != "":
		return fail("Last-Modified without max-age",
			"caches keep it for a tenth of its age, which may be weeks (RFC 9111, section 4.2.2)", goodCaching)
	case control.MaxAge < 0 && expires == "":
		return warn("no max-age", "every relying party and every cache in between chooses how long to keep it", goodCaching)
	case control.MaxAge < 0:
		at, err := http.ParseTime(expires)
		if err != nil {
			at = o.Time // an invalid date is in the past (RFC 9111, section 5.3)
		}
		fresh, seen = at.Sub(o.Time), fmt.Sprintf("Expires %.60q", expires)
	}
	return freshness(seen, control, fresh, o.Options.PublishAhead)
}

// freshness judges how long caches keep a document: fresh is the longest for one
// cache, and ahead the time for which keys are published before they sign.
func freshness(seen string, control *cacheobject.ResponseCacheDirectives, fresh, ahead time.Duration) Result {
	const sharedWhy = "a shared cache keeps it for s-maxage, and relying parties for max-age after that"
	const sharedDo = "remove s-maxage"
	shared := fresh
	if control.SMaxAge >= 0 && control.SMaxAge != control.MaxAge {
		shared += seconds(control.SMaxAge)
	}
	longest := shared + seconds(control.StaleWhileRevalidate)
	switch {
	case shared > ahead && shared > fresh:
		return fail(seen, sharedWhy, sharedDo)
	case longest > ahead:
		return fail(seen, fmt.Sprintf("a cache keeps it for longer than keys are published before they sign (%v), "+
			"so relying parties refuse tokens of new keys", ahead),
			"make it shorter, or set {policy.publishAhead} if the issuer publishes keys earlier")
	case longest > ahead/2:
		return warn(seen, fmt.Sprintf("it is more than half of the time for which keys are published before they sign "+
			"(%v), and the times of several caches add up", ahead), "make it shorter")
	case fresh < 10*time.Second:
		return warn(seen, "nearly every verification asks the server", goodCaching)
	case shared > fresh:
		return warn(seen, sharedWhy, sharedDo)
	}
	return pass("%s", seen)
}

func seconds(n cacheobject.DeltaSeconds) time.Duration { return time.Duration(max(n, 0)) * time.Second }
