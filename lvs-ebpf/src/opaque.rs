//! Bounds that the verifier can see, those that it shall not, and zeroes.

/// The same number, about which the compiler knows nothing.
///
/// The compiler proves bounds in ways that the verifier can't follow: it leaves a mask away that changes nothing, or
/// compares another register that differs by a constant. A comparison or mask of an opaque number stays as it is
/// written.
#[inline(always)]
pub(crate) fn opaque(number: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    let number = {
        let mut number = number;
        // SAFETY: a register is copied to itself. (With no instruction at all its line would be that of the next one
        // too, and the kernel refuses line information that says so.)
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags))
        };
        number
    };
    number
}

/// The same number below 65,536, whose bounds the verifier has forgotten.
///
/// It follows every way through the program until it finds itself where it was before with the same bounds or wider
/// ones. Offsets that depend on headers have other bounds on every way, and the ways through all extension headers,
/// tunnels and tags are too many. What is written to the stack in two pieces and read as one is unknown to it.
#[expect(clippy::cast_possible_truncation, reason = "callers give numbers that fit")]
#[inline(always)]
pub(crate) fn forget_bounds(number: usize) -> usize {
    let [first, second] = (number as u16).to_ne_bytes();
    let mut whole = 0_u16;
    let piece = (&raw mut whole).cast::<u8>();
    // SAFETY: both bytes are those of a local value.
    unsafe {
        piece.write_volatile(first);
        piece.add(1).write_volatile(second);
        usize::from((&raw const whole).read_volatile())
    }
}

/// Sets a number to 0, by itself. Of several zeroes side by side the compiler makes a call of `memset`, which here is a
/// loop over bytes: five instructions for each.
#[inline(always)]
pub(crate) fn clear(number: &mut u64) {
    // SAFETY: it is a number of ours.
    unsafe { (&raw mut *number).write_volatile(0) }
}

/// The same of several.
#[inline(always)]
pub(crate) fn clear_all(numbers: &mut [u64; 4]) {
    let [a, b, c, d] = numbers;
    clear(a);
    clear(b);
    clear(c);
    clear(d);
}
