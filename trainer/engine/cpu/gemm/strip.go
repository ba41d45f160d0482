package gemm

import "unsafe"

// strip is the unit of work of a kernel: m rows of C, at most stripRows, times n columns, over k of the reduction:
//
//	acc[i,j] = Σ_p a[i,p] * b[p,j]      in the order of p, from 0
//	c[i,j]   = alpha*acc[i,j] + beta*c[i,j]      (c is not read if beta is 0)
//
// Strides are in bytes. Column j of B is at b + (j/panel)*bstep + (j%panel)*4, so panels and plain rows look alike.
// The assembly reads the fields by offset.
type strip struct {
	a     unsafe.Pointer // 0
	rs    int            // 8: between rows of A
	cs    int            // 16: between columns of A
	b     unsafe.Pointer // 24
	ldb   int            // 32: between rows of B
	bstep int            // 40: between panels of columns of B
	c     unsafe.Pointer // 48
	ldc   int            // 56: between rows of C
	m     int            // 64
	n     int            // 72
	k     int            // 80
	alpha float32        // 88
	beta  float32        // 92
	ahead int            // 96: how far ahead B is prefetched
}

// stripPortable is the strip in plain Go. Products are rounded before they are added (no fused multiply-add), so it
// gives the same bits on every processor.
func stripPortable(s *strip) {
	var acc [panel]float32
	for i := range s.m {
		for j := 0; j < s.n; j += panel {
			w := min(panel, s.n-j)
			clear(acc[:])
			b := unsafe.Add(s.b, j/panel*s.bstep)
			for p := range s.k {
				av := *(*float32)(unsafe.Add(s.a, i*s.rs+p*s.cs))
				row := unsafe.Slice((*float32)(unsafe.Add(b, p*s.ldb)), w)
				for q, bv := range row {
					acc[q] += float32(av * bv)
				}
			}
			c := unsafe.Slice((*float32)(unsafe.Add(s.c, i*s.ldc+j*4)), w)
			for q := range c {
				v := float32(s.alpha * acc[q])
				if s.beta != 0 {
					v += float32(s.beta * c[q])
				}
				c[q] = v
			}
		}
	}
}

// transposePortable writes dst[p*ldd+i] = src[i*lds+p] for i < w, p < k.
func transposePortable(dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds, k, w int) {
	for i := range w {
		row := unsafe.Slice((*float32)(unsafe.Add(src, i*lds*4)), k)
		for p, v := range row {
			*(*float32)(unsafe.Add(dst, (p*ldd+i)*4)) = v
		}
	}
}

// copyPanelsPortable writes (dst + j/panel*step)[p*ldd+j%panel] = src[p*lds+j] for j < n, p < k.
func copyPanelsPortable(dst unsafe.Pointer, ldd, step int, src unsafe.Pointer, lds, k, n int) {
	for p := range k {
		for j := 0; j < n; j += panel {
			w := min(panel, n-j)
			copy(unsafe.Slice((*float32)(unsafe.Add(dst, (j/panel*step+p*ldd)*4)), w),
				unsafe.Slice((*float32)(unsafe.Add(src, (p*lds+j)*4)), w))
		}
	}
}

// widenPortable writes dst[i] = src[i]·2^16 as bits: n bfloat16 as float32, exactly.
func widenPortable(dst, src unsafe.Pointer, n int) {
	if n == 0 {
		return
	}
	to, from := unsafe.Slice((*uint32)(dst), n), unsafe.Slice((*uint16)(src), n)
	for i, h := range from {
		to[i] = uint32(h) << 16
	}
}

// narrowPortable is the inverse of widenPortable.
func narrowPortable(dst, src unsafe.Pointer, n int) {
	if n == 0 {
		return
	}
	to, from := unsafe.Slice((*uint16)(dst), n), unsafe.Slice((*uint32)(src), n)
	for i, v := range from {
		to[i] = uint16(v >> 16)
	}
}
