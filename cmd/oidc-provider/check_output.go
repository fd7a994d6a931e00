package main

import (
	"fmt"
	"io"

	"oidc-provider/internal/check"
	"oidc-provider/internal/describe"
)

// print prints a report: for programs whole, for people the findings first and
// the verdicts last.
func (c *checkCommand) print(w io.Writer, report *check.Report) error {
	switch {
	case c.output.structured() && c.watch:
		return c.output.writeNext(w, report)
	case c.output.structured():
		return c.output.write(w, report)
	}
	colour := colours(w)
	for _, r := range report.Findings() {
		printResult(w, colour, r)
	}
	if c.verbose {
		printWithStatus(w, colour, report, check.Pass)
		printWithStatus(w, colour, report, check.Skip)
	}
	more := " (-v lists them)"
	if c.verbose {
		more = ""
	}
	_, err := fmt.Fprintf(w, "\n%d passed, %d warned, %d failed, %d skipped%s\n", report.Count(check.Pass),
		report.Count(check.Warn), report.Count(check.Fail), report.Count(check.Skip), more)
	if err != nil || len(report.RelyingParties) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return printVerdicts(w, colour, report)
}

func printWithStatus(w io.Writer, colour palette, report *check.Report, status check.Status) {
	for _, r := range report.Results {
		if r.Status == status {
			printResult(w, colour, r)
		}
	}
}

func printResult(w io.Writer, colour palette, r check.Result) {
	fmt.Fprintf(w, "%s  %-22s  %s\n", colour.paint(string(r.Status), 4), r.Check, r.Seen)
	if r.Why != "" {
		fmt.Fprintf(w, "%30swhy: %s\n", "", r.Why)
	}
	if r.Do != "" {
		fmt.Fprintf(w, "%30sdo:  %s\n", "", r.Do)
	}
}

// printChanges prints the first report whole, and from a later one what differs
// from the known results. A check that was skipped this time has not changed.
func (c *checkCommand) printChanges(w io.Writer, known map[string]check.Result, now *check.Report) error {
	first := len(known) == 0
	for _, r := range now.Results {
		last, seen := known[r.Check]
		if r.Status == check.Skip || seen && !last.Changed(r) {
			continue
		}
		known[r.Check] = r
		if !first && !c.output.structured() {
			fmt.Fprintf(w, "%s  ", describe.Time(now.Time))
			printResult(w, colours(w), r)
		}
	}
	if first || c.output.structured() {
		return c.print(w, now)
	}
	return nil
}

// printVerdicts prints what each relying party does, and why.
func printVerdicts(w io.Writer, colour palette, report *check.Report) error {
	width := len("RELYING PARTY")
	for _, v := range report.RelyingParties {
		width = max(width, len(v.Title))
	}
	fmt.Fprintf(w, "%-*s   VERDICT   WHY\n", width, "RELYING PARTY")
	for _, v := range report.RelyingParties {
		_, err := fmt.Fprintf(w, "%-*s   %s   %s\n", width, v.Title, colour.paint(string(v.Answer), len("VERDICT")), why(v))
		if err != nil {
			return err
		}
	}
	return nil
}

func why(v check.Verdict) string {
	switch {
	case v.Check != "":
		return fmt.Sprintf("%s: %s; %s", v.Check, v.Seen, v.Why)
	case v.Seen != "":
		return v.Seen
	}
	return "once it trusts this issuer, subject and audience"
}

func (c *checkCommand) printList(w io.Writer) error {
	if c.output.structured() {
		return c.output.write(w, struct {
			Checks []check.Check `json:"checks"`
		}{check.List()})
	}
	var rows [][]string
	for _, one := range check.List() {
		rows = append(rows, []string{one.ID, one.Asks})
	}
	return writeTable(w, []string{"CHECK", "ASKS"}, rows)
}
