package app

const (
	// heapFloor bytes are allocated and never touched, so they take no memory: the garbage collector counts them as live and
	// waits for as much garbage. Without them a service, whose live heap is small, collects a hundred times a second under
	// load, which costs a sixth of its processor time.
	heapFloor = 48 << 20
	// heapRoom is what the heap of a busy service takes beside the floor: the garbage that it waits for, and as much as is live.
	heapRoom = 64 << 20
)

// prepareHeap gives the floor, which is to be kept alive. Before it the heap has had room on huge pages, and has it
// still once that is collected: the runtime asks for none, and to go through so much memory in pages of 4 KiB is a
// twentieth of a webhook.
func prepareHeap() (floor []byte) {
	adviseHugePages(make([]byte, heapRoom))
	return make([]byte, heapFloor)
}
