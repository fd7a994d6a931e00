package main

import (
	"bytes"
	"os"
	"testing"
)

func TestPaint(t *testing.T) {
	for _, test := range []struct {
		name    string
		palette palette
		want    string
	}{
		{"plain", nil, "fail  "},
		{"coloured, and as wide", palette{"fail": red}, "\x1b[31mfail\x1b[0m  "},
		{"a word without a colour", palette{"pass": green}, "fail  "},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.palette.paint("fail", 6); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Nothing but a terminal gets colours.
func TestColours(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if colours(file) != nil || colours(new(bytes.Buffer)) != nil {
		t.Error("a file or a buffer gets colours")
	}
}
