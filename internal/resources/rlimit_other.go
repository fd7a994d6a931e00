//go:build !linux

package resources

func maxData() int64 { return unlimited }

// maxFiles returns the default of most systems for a service.
func maxFiles() int64 { return 1024 }
