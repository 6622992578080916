/** A library that is called libnccl.so.2 and has nothing of NCCL's: one that cannot be used must be refused.
 */
extern const int nccl_none;
const int nccl_none = 1;
