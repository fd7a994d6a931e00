package fleet

import (
	"errors"
	"fmt"
	"slices"

	"oidc-provider/internal/hint"
	"oidc-provider/web"
)

// maxListed is how many issuers /readyz?verbose lists one by one. Of more, it
// lists those that have a problem.
const maxListed = 100

// checks returns what /readyz looks at, for one issuer or, if url is "", for all.
func (f *Fleet) checks(url string) []web.Check {
	checks := []web.Check{{Name: "shutdown", Run: func() (string, error) {
		if f.stopping.Load() {
			return "", errors.New("the process is stopping")
		}
		return "running", nil
	}}}
	readiness := f.cfg.Settings.Readiness
	checks = append(checks, f.issuers.checks(url, readiness)...)
	if f.reload != nil {
		checks = append(checks, f.reload.check(url == "" && readiness == "all"))
	}
	if f.cert != nil {
		checks = append(checks, certificateCheck(f.cert.Status))
	}
	if f.acme != nil {
		checks = append(checks, certificateCheck(f.acme.Status))
	}
	for i := range checks {
		run := checks[i].Run
		checks[i].Run = func() (string, error) {
			detail, err := run()
			if err != nil {
				err = errors.New(hint.Text(err, f.cfg.SettingName))
			}
			return detail, err
		}
	}
	return checks
}

// certificateCheck is advisory: other servers have the same certificate, so taking
// this one out of a load balancer helps no relying party.
func certificateCheck(status func() (string, error)) web.Check {
	return web.Check{Name: "certificate", Advisory: true, Run: status}
}

// checks returns the checks of one issuer, or, for url "", of all under the policy
// readiness, any or all.
func (s *issuers) checks(url, readiness string) []web.Check {
	all := s.all()
	if url != "" {
		n := slices.IndexFunc(all, func(i *issuer) bool { return i.url.String() == url })
		if n < 0 {
			return []web.Check{{Name: "issuer", Run: func() (string, error) {
				return "", hint.Errorf("issuers are compared byte for byte", "%q is not served here", url)
			}}}
		}
		all = all[n : n+1]
	}
	if len(all) == 1 {
		return all[0].checks("")
	}
	return checkAll(all, readiness)
}

// checkAll lists the checks of many issuers, none of which decides alone, and adds
// the one that does.
func checkAll(all []*issuer, readiness string) (checks []web.Check) {
	ready, hidden := 0, 0
	for _, i := range all {
		served, fine := true, true
		own := i.checks(" " + i.url.String())
		for n, check := range own {
			detail, err := check.Run()
			served = served && (err == nil || check.Advisory)
			fine = fine && err == nil
			own[n].Advisory = true
			own[n].Run = func() (string, error) { return detail, err }
		}
		if served {
			ready++
		}
		switch {
		case fine && len(all) > maxListed:
		case len(checks) < 3*maxListed:
			checks = append(checks, own...)
		default:
			hidden++
		}
	}
	return append(checks, web.Check{Name: "issuers", Run: func() (string, error) {
		said := fmt.Sprintf("%d of %d can be served; readiness is %q", ready, len(all), readiness)
		if hidden > 0 {
			said += fmt.Sprintf("; %d more with problems are not listed", hidden)
		}
		if ready == 0 || ready < len(all) && readiness == "all" {
			return "", errors.New(said)
		}
		return said, nil
	}})
}

// checks returns the checks of the current revision, and why there is a next one
// that does not replace it. Names end in suffix.
func (i *issuer) checks(suffix string) []web.Check {
	checks := i.current.Load().checks()
	if next := i.next.Load(); next != nil {
		for _, check := range next.checks() {
			if check.Advisory {
				continue
			}
			checks = append(checks, web.Check{Name: "change", Advisory: true, Run: func() (string, error) {
				said, err := check.Run()
				return said, fmt.Errorf("keeping the previous configuration, since the new one has nothing to publish: %w", err)
			}})
		}
	}
	for n := range checks {
		checks[n].Name += suffix
	}
	return checks
}
