package mirror

import "time"

// FillDisk takes all slots for reading key files, and FillStates those for writing
// the state.
func FillDisk() (release func())   { return fill(readSlots) }
func FillStates() (release func()) { return fill(writeSlots) }

func fill(slots chan struct{}) (release func()) {
	for range cap(slots) {
		slots <- struct{}{}
	}
	return func() {
		for range cap(slots) {
			<-slots
		}
	}
}

func DiskSlots() int { return cap(readSlots) }

var ReplaceFile = replaceFile

// Wait is the time to the next fetch with n mirrors of files running.
func (m *Mirror) Wait(now time.Time, n int64) time.Duration {
	defer fileMirrors.Store(fileMirrors.Swap(n))
	return m.wait(now)
}
