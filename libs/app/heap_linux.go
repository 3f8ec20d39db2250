package app

import "golang.org/x/sys/unix"

// adviseHugePages has memory lie on huge pages where the kernel has them for who asks
// (/sys/kernel/mm/transparent_hugepage/enabled says always or madvise), and does nothing elsewhere.
func adviseHugePages(memory []byte) { _ = unix.Madvise(memory, unix.MADV_HUGEPAGE) }
