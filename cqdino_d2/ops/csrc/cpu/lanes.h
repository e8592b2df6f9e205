// Vectors by the vector extension of GCC and Clang, and the types that are stored in memory.
// No include guard: included once per instruction set, inside its namespace (see variant.h).

// N numbers in one vector; one alone is a plain number.
template <class F, int N>
struct VectorOf {
  typedef F Type __attribute__((vector_size(N * sizeof(F))));
};
template <class F>
struct VectorOf<F, 1> {
  typedef F Type;
};
template <class F, int N>
using Vector = typename VectorOf<F, N>::Type;

// All bits set where a comparison holds, which for plain numbers is a bool.
template <class To>
CQDINO_INLINE To mask(bool holds) {
  return To(0) - To(holds);
}
template <class To, class Comparison>
CQDINO_INLINE To mask(Comparison holds) {
  return (To)holds;
}

template <int N, class To, class From>
CQDINO_INLINE To convert(From from) {
  if constexpr (N == 1) {
    return static_cast<To>(from);
  } else {
    return __builtin_convertvector(from, To);
  }
}

template <class To, class From>
CQDINO_INLINE To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits are kept");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

template <class V, class T>
CQDINO_INLINE V load(const T* from) {
  V lanes;
  __builtin_memcpy(&lanes, from, sizeof(V));
  return lanes;
}

template <class V, class T>
CQDINO_INLINE void store(T* to, V lanes) {
  __builtin_memcpy(to, &lanes, sizeof(V));
}

// N numbers of type T in memory, read as accumulators of type F and written back.
template <class T, class F, int N>
struct Stored {  // float and double: as they are
  static CQDINO_INLINE Vector<F, N> read(const T* from) { return load<Vector<F, N>>(from); }
  static CQDINO_INLINE void write(T* to, Vector<F, N> lanes) { store(to, lanes); }
};

template <int N>
struct Stored<BFloat16Bits, float, N> {
  using Wide = Vector<uint32_t, N>;
  using Narrow = Vector<uint16_t, N>;

  static CQDINO_INLINE Vector<float, N> read(const BFloat16Bits* from) {
    const Wide bits = convert<N, Wide>(load<Narrow>(from));
    return same_bits<Vector<float, N>>(bits << 16);
  }

  static CQDINO_INLINE void write(BFloat16Bits* to, Vector<float, N> lanes) {
    const Wide bits = same_bits<Wide>(lanes);
    const Wide rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
    const Wide is_nan = mask<Wide>(lanes != lanes);
    store(to, convert<N, Narrow>((rounded & ~is_nan) | (0x7fc0 & is_nan)));
  }
};

template <int N>
struct Stored<HalfBits, float, N> {
  using Wide = Vector<uint32_t, N>;
  using Narrow = Vector<uint16_t, N>;
  using Float = Vector<float, N>;

  static CQDINO_INLINE Float read(const HalfBits* from) {
    if constexpr (sizeof(Float) == VECTOR_BYTES && VECTOR_BYTES > 16) {
      return half_to_float(load<Narrow>(from));  // an instruction, see variant_avx2.cpp
    }
    const Wide bits = convert<N, Wide>(load<Narrow>(from));
    const Wide magnitude = (bits & 0x7fff) << 13;
    // The exponents' biases differ by 112; a product also makes subnormal numbers right.
    const Wide scaled = same_bits<Wide>(same_bits<Float>(magnitude) * 0x1p112f);
    const Wide not_finite = mask<Wide>(magnitude >= (0x7c00u << 13));
    return same_bits<Float>(scaled | (not_finite & 0x7f800000u) | ((bits & 0x8000) << 16));
  }

  static CQDINO_INLINE void write(HalfBits* to, Float lanes) {
    const Wide bits = same_bits<Wide>(lanes);
    const Wide magnitude = bits & 0x7fffffffu;
    // To nearest, ties to even; what rounds up to 2^16 becomes infinite by itself.
    const Wide normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    // Below 2^-14 the sum with 1/2 rounds at half's smallest step.
    const Wide tiny = same_bits<Wide>(same_bits<Float>(magnitude) + 0.5f) - 0x3f000000u;
    const Wide is_tiny = mask<Wide>(magnitude < (113u << 23));
    const Wide is_large = mask<Wide>(magnitude >= (143u << 23));
    const Wide is_nan = mask<Wide>(magnitude > 0x7f800000u);
    const Wide large = 0x7c00 | (is_nan & 0x200);
    const Wide finite = (tiny & is_tiny) | (normal & ~is_tiny);
    const Wide result = (large & is_large) | (finite & ~is_large);
    store(to, convert<N, Narrow>(result | ((bits >> 16) & 0x8000)));
  }
};

template <class F, class T>
CQDINO_INLINE F widen(T x) {
  return Stored<T, F, 1>::read(&x);
}

template <class T, class F>
CQDINO_INLINE T narrow(F x) {
  T result;
  Stored<T, F, 1>::write(&result, x);
  return result;
}
