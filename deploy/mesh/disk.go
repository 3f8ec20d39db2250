package mesh

import (
	"fmt"
	"os"
	"syscall"
)

// SmallDisk makes a folder of a file system of its own, of that many bytes, until remove is called. It takes
// root, and Linux.
func SmallDisk(folder string, bytes int) (remove func() error, err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		return nil, fmt.Errorf("a small disk: %w", err)
	}
	return func() error { return syscall.Unmount(folder, syscall.MNT_DETACH) }, nil
}
