package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// stop ends a process that has no fault to live with at this moment. It must
// say that all is well, exit with status 0, and have logged no error since it
// was started.
func (p *provider) stop() {
	p.lab.t.Helper()
	// For a moment after a hand-over the one after it is not planned yet.
	eventually(p.lab.t, "every check of /readyz is well", 3*time.Second, p.well)
	p.process.stop(10 * time.Second)
	p.checkLog()
}

// well demands that no check fails, not even an advisory one.
func (p *provider) well() error {
	response, err := p.lab.ca.client().Get("http://" + p.admin + "/readyz?verbose")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	report, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	passed := 0
	for line := range strings.Lines(string(report)) {
		switch {
		case strings.HasPrefix(line, "[+]"):
			passed++
		case strings.HasPrefix(line, "["):
			return fmt.Errorf("%s\n%s", response.Status, report)
		}
	}
	if response.StatusCode != http.StatusOK || passed == 0 {
		return fmt.Errorf("%s\n%s", response.Status, report)
	}
	return nil
}

// checkLog looks for errors in what the process logged, and for anything that
// is no record, as a panic would be.
func (p *provider) checkLog() {
	p.lab.t.Helper()
	records := 0
	for line := range bytes.Lines(p.process.output()) {
		var record struct {
			Level slog.Level `json:"level"`
		}
		if err := json.Unmarshal(line, &record); err != nil {
			p.lab.t.Errorf("not a log record: %s", line)
		} else if record.Level >= slog.LevelError {
			p.lab.t.Errorf("logged an error: %s", line)
		}
		records++
	}
	if records == 0 {
		p.lab.t.Error("oidc-provider has logged nothing at all")
	}
}
