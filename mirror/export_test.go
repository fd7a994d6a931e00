package mirror

// FillDisk takes all places of those that read or write files.
func FillDisk() (release func()) {
	for range cap(disk) {
		disk <- struct{}{}
	}
	return func() {
		for range cap(disk) {
			<-disk
		}
	}
}

func DiskSlots() int { return cap(disk) }

var ReplaceFile = replaceFile
