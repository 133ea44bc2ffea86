#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <pthread.h>
static double now(){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return t.tv_sec+t.tv_nsec*1e-9;}
static unsigned char*buf; size_t N=172000000/64*64; int T;
static void* rd(void*a){ long i=(long)a; size_t n=N/T/64*64; unsigned char*p=buf+i*n; __m512i s0=_mm512_setzero_si512(),s1=s0,s2=s0,s3=s0;
 for(size_t k=0;k+256<=n;k+=256){s0=_mm512_add_epi8(s0,_mm512_load_si512(p+k));s1=_mm512_add_epi8(s1,_mm512_load_si512(p+k+64));s2=_mm512_add_epi8(s2,_mm512_load_si512(p+k+128));s3=_mm512_add_epi8(s3,_mm512_load_si512(p+k+192));}
 s0=_mm512_add_epi8(_mm512_add_epi8(s0,s1),_mm512_add_epi8(s2,s3)); return (void*)(long)_mm512_reduce_add_epi64(s0);}
int main(int c,char**v){T=atoi(v[1]);int huge=atoi(v[2]); buf=mmap(0,N+(2<<20),3,MAP_PRIVATE|MAP_ANONYMOUS,-1,0); buf=(unsigned char*)(((size_t)buf+(2<<20)-1)&~((size_t)(2<<20)-1)); madvise(buf,N,huge?MADV_HUGEPAGE:MADV_NOHUGEPAGE); memset(buf,1,N);
 double best=1e9; for(int r=0;r<9;r++){double t=now();pthread_t th[8];for(long i=1;i<T;i++)pthread_create(&th[i],0,rd,(void*)i);volatile long z=(long)rd(0);for(int i=1;i<T;i++)pthread_join(th[i],0);t=now()-t;if(t<best)best=t;} printf("T=%d huge=%d %.1f GB/s\n",T,huge,N/best/1e9);}
