package mirror

import "time"

// FillDisk takes all places of those that read key files, and FillStates those
// of the ones that write what they keep.
func FillDisk() (release func())   { return fill(disk) }
func FillStates() (release func()) { return fill(states) }

func fill(places chan struct{}) (release func()) {
	for range cap(places) {
		places <- struct{}{}
	}
	return func() {
		for range cap(places) {
			<-places
		}
	}
}

func DiskSlots() int { return cap(disk) }

var ReplaceFile = replaceFile

// Wait is the time to the next fetch with n mirrors of files running.
func (m *Mirror) Wait(now time.Time, n int64) time.Duration {
	defer ofFiles.Store(ofFiles.Swap(n))
	return m.wait(now)
}
